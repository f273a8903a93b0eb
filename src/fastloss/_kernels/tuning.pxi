# Block sizes and thresholds, and nothing else. `python -m bench blocks` measures those that matter most.
#
# DEF because most of them are the size of an array or the step of a range, where Cython makes C of literals only.

# What the bits of a result depend on, as the order of additions does:
DEF WIDTH = 32                     # accumulators of the values of elements
DEF LANES = 64                     # samples whose values are added up together
DEF GROUP = 8                      # steps, of tiles classes, added in the loop's type before their sum is carried on
DEF GROUPS_IN_TYPE = 5             # sums of classes of a tile: more are carried on in float64
DEF ROWS_BLOCK = 2048              # classes of a sample that stay in L1
DEF HEADED = 8                     # rows that get their heads together, a step of float64
DEF POINTWISE_STEPS = 32           # of elements that stay in L1
DEF POINTWISE_BLOCK = 16 * POINTWISE_STEPS  # of float32, and half as many of float64
DEF ROWS_MIN_CLASSES = 128         # fewer contiguous classes than this are for `tiles`,
DEF TILES_MAX_CLASSES = 1 << 24    # and more strided ones are not, where labels are float32
DEF SHORT_ROWS_MIN_CLASSES = 5     # fewer classes are for `planes` also where they are neighbours, but for softmax
DEF SHORT_LINEAR_MIN_CLASSES = 16  # and fewer where each has a coefficient; at least a step of float32
DEF SHORT_ROWS_BYTES = 1024        # of a row of numbers: less are for `short_rows`, whatever ROWS_MIN_CLASSES is,
DEF SHORT_ROWS_GROUP = 64          # where so many classes are added up, and the sums in float64
DEF MAX_CHUNKS = 16384
DEF CHUNK_ELEMENTS = 16384         # a chunk should be worth a thread's while
DEF SUMMED_CHUNKS = 32             # and where it leaves a sum for each class, there are no more of them than this

# What only the time depends on:
DEF SERIAL_ELEMENTS = 32768        # less than this stays on the calling thread
DEF STREAM_BYTES = 64 << 20        # a result passes the caches where it and its arguments are larger together
DEF LINE_MIN_INNER = 16 * LANES    # fewer neighbours: tiles that begin a line of x too often end beyond the last one
DEF AHEAD = 12288                  # bytes from what rows compute to what they prefetch, unless machine.h knows better
DEF PLANE_SAMPLES = 512            # of float32 in a tile at most, half as many of float64,
DEF PLANE_BYTES = 4 * PLANE_SAMPLES
DEF COMPARE_MAX_CLASSES = 6        # more: the numbers of labels are gathered
DEF TILE_BYTES = 16384             # and what a tile should have of x: that stays in L1
DEF BLOCK_OF_LABELS = 512          # of labels that are checked
DEF RUN_MIN_INNER = 512            # as few neighbours are copied: one class's of several outer indices make a tile
DEF KEPT_BYTES = 131072            # of a tile of many classes: that stays in L2
DEF MOST_SHARED = 512             # classes whose smoothed coefficients are on the stack
DEF FEW_CHUNKS = 16                # whose sums are on the stack
DEF SIGNALS_AFTER = 50000000       # nanoseconds between two looks at the signals
DEF APART = 1344                   # bytes between parts of a thread's memory: at multiples of 4096 stores hold up loads
DEF BYTES_OF_ROWS_BLOCK = 8 * (ROWS_BLOCK + 16)
# A thread's memory: blocks of `rows`; and of tiles, see `place_tile`, labels, three arrays of float64, buffers, arrays.
DEF BYTES_FOR_ROWS = 6 * (BYTES_OF_ROWS_BLOCK + APART) + 2304 * HEADED
DEF OWN_BYTES = BYTES_FOR_ROWS + 14 * PLANE_BYTES + 5 * KEPT_BYTES + 24 * PLANE_BYTES + 33 * APART + 64
