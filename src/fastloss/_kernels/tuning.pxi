# Block sizes and thresholds, and nothing else. `python bench/blocks.py` measures most of them.
#
# DEF because most of them are the size of an array or the step of a range, where Cython makes C of literals only.

# What the bits of a result depend on, as the order of additions does:
DEF WIDTH = 32                     # numbers that the loops compute side by side, in fixed accumulators
DEF LANES = 64                     # samples whose statistics are finished together; in `lanes` a tile
DEF GROUP = 8                      # terms that are added in the loop's type before their sum is carried on
DEF ROWS_BLOCK = 2048              # classes of a sample that stay in L1
DEF HEADED = 8                     # rows that get their heads together, a step of float64
DEF LANES_BLOCK = 128              # classes of a tile
DEF POINTWISE_BLOCK = 256          # elements that stay in L1
DEF ROWS_MIN_CLASSES = LANES_BLOCK    # fewer contiguous classes than this are for `lanes`
DEF TILE_MAX_CLASSES = 512         # of samples in planes, for `tiles`
DEF MAX_CHUNKS = 1024
DEF CHUNK_ELEMENTS = 16384         # a chunk should be worth a thread's while

# What only the time depends on:
DEF SERIAL_ELEMENTS = 32768        # less than this stays on the calling thread
DEF STREAM_BYTES = 64 << 20        # a result passes the caches where it and its arguments are larger together
DEF LINE_MIN_INNER = 16 * LANES    # fewer neighbours: tiles that begin a line of x too often end beyond the last one
DEF FEW_CLASSES = 4                # of float32, up to which comparisons with all take less time than loads one by one
DEF AHEAD = 12288                  # bytes from what is computed to what is prefetched into L1: a third of it or less
DEF FAR_AHEAD = 65536              # and into L2
DEF LANES_FAR_AHEAD = 8            # tiles from the one that is computed to the one that is prefetched into L2
DEF PLANE_SAMPLES = 1024           # neighbours that are computed class by class, their sums in L1
DEF RUN_MIN_INNER = 512            # as few neighbours are copied: one class's of several outer indices make a tile
DEF KEPT_BYTES = 131072            # of exponentials in L2
DEF TILE_ARRAY = PLANE_SAMPLES + 336     # numbers, of which 2 * LANES are used beyond; apart as above, in float64 too
DEF FEW_CHUNKS = 16                # whose sums are on the stack
DEF SIGNALS_AFTER = 50000000       # nanoseconds between two looks at the signals
DEF APART = 1344                   # bytes between parts of a thread's memory: at multiples of 4096 stores hold up loads
DEF OWN_BYTES = 7 * (8 * LANES_BLOCK * LANES + APART) + KEPT_BYTES + 14 * 8 * TILE_ARRAY + 64 + 2 * APART  # tiles.pxd
