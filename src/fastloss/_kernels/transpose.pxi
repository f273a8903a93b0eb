# transpose: samples whose classes are neighbours in memory, put side by side in a tile, and back.
#
# x is (samples, classes) with a step, y is (classes, LANES). The loops are in C and not inlined: gcc makes scatters
# of plain ones, and among all the rest of `lanes` it would keep what they need in memory. The vector types are those
# of `rows`.

cdef extern from *:
    """
    /* y[j * y_step + i] = x[i * x_step + j] in registers, for PANEL rows of 4 numbers (split) or 4 rows of PANEL
       numbers (join); gcc makes scatters of the plain loops. Pairs are made within 128 bits, by one instruction. */
    #if defined(__has_builtin)
    #if __has_builtin(__builtin_shufflevector)
    #define FASTLOSS_SHUFFLE __builtin_shufflevector
    #endif
    #endif
    #ifdef FASTLOSS_SHUFFLE
    #define FASTLOSS_FOUR(p, q, r, s) p, q, r, s
    #define FASTLOSS_LOAD(type, x, step) (*(const type*)(x))
    #define FASTLOSS_STORE(type, y, step, row) (*(type*)(y) = (row))
    #ifdef __AVX__  /* rows i and i + 4 in the halves of a register */
    #define FASTLOSS_PANEL 8
    typedef fastloss_float8 fastloss_panel;
    #define FASTLOSS_IN_HALF(i, half) ((i) + ((i) < 4 ? 0 : 4) + 4 * (half))
    #define FASTLOSS_EIGHT(p, q, r, s)                                                                              \\
        FASTLOSS_IN_HALF(p, 0), FASTLOSS_IN_HALF(q, 0), FASTLOSS_IN_HALF(r, 0), FASTLOSS_IN_HALF(s, 0),             \\
        FASTLOSS_IN_HALF(p, 1), FASTLOSS_IN_HALF(q, 1), FASTLOSS_IN_HALF(r, 1), FASTLOSS_IN_HALF(s, 1)
    #define FASTLOSS_WITHIN FASTLOSS_EIGHT
    #define FASTLOSS_LOAD_HALVES(type, x, step) FASTLOSS_SHUFFLE(                                                   \\
        *(const fastloss_float4*)(x), *(const fastloss_float4*)((x) + 4 * (step)), 0, 1, 2, 3, 4, 5, 6, 7)
    #define FASTLOSS_STORE_HALVES(type, y, step, row)                                                               \\
        (*(fastloss_float4*)(y) = FASTLOSS_SHUFFLE(row, row, 0, 1, 2, 3),                                           \\
         *(fastloss_float4*)((y) + 4 * (step)) = FASTLOSS_SHUFFLE(row, row, 4, 5, 6, 7))
    #else
    #define FASTLOSS_PANEL 4
    typedef fastloss_float4 fastloss_panel;
    #define FASTLOSS_WITHIN FASTLOSS_FOUR
    #define FASTLOSS_LOAD_HALVES FASTLOSS_LOAD
    #define FASTLOSS_STORE_HALVES FASTLOSS_STORE
    #endif
    #define FASTLOSS_TRANSPOSE_PANEL(name, real, type, load, store, four, p0, p1, p2, p3, q0, q1, q2, q3, u, v)     \\
        static inline void name(const real* x, ptrdiff_t x_step, real* y, ptrdiff_t y_step) {                       \\
            type a = load(type, x, x_step), b = load(type, x + x_step, x_step);                                     \\
            type c = load(type, x + 2 * x_step, x_step), d = load(type, x + 3 * x_step, x_step);                    \\
            type ab0 = FASTLOSS_SHUFFLE(a, b, four(p0, p1, p2, p3));                                                \\
            type ab1 = FASTLOSS_SHUFFLE(a, b, four(q0, q1, q2, q3));                                                \\
            type cd0 = FASTLOSS_SHUFFLE(c, d, four(p0, p1, p2, p3));                                                \\
            type cd1 = FASTLOSS_SHUFFLE(c, d, four(q0, q1, q2, q3));                                                \\
            type y0 = FASTLOSS_SHUFFLE(ab0, cd0, four(0, 1, 4, 5));                                                 \\
            type y1 = FASTLOSS_SHUFFLE(ab0, cd0, four(2, 3, 6, 7));                                                 \\
            type y2 = FASTLOSS_SHUFFLE(ab1, cd1, four(0, 1, 4, 5));                                                 \\
            type y3 = FASTLOSS_SHUFFLE(ab1, cd1, four(2, 3, 6, 7));                                                 \\
            store(type, y, y_step, y0);                                                                             \\
            store(type, y + u * y_step, y_step, y1);                                                                \\
            store(type, y + v * y_step, y_step, y2);                                                                \\
            store(type, y + 3 * y_step, y_step, y3);                                                                \\
        }
    FASTLOSS_TRANSPOSE_PANEL(fastloss_split_float, float, fastloss_panel, FASTLOSS_LOAD_HALVES, FASTLOSS_STORE,
        FASTLOSS_WITHIN, 0, 4, 1, 5, 2, 6, 3, 7, 1, 2)
    FASTLOSS_TRANSPOSE_PANEL(fastloss_join_float, float, fastloss_panel, FASTLOSS_LOAD, FASTLOSS_STORE_HALVES,
        FASTLOSS_WITHIN, 0, 4, 1, 5, 2, 6, 3, 7, 1, 2)
    FASTLOSS_TRANSPOSE_PANEL(fastloss_panel_double, double, fastloss_double4, FASTLOSS_LOAD, FASTLOSS_STORE,
        FASTLOSS_FOUR, 0, 4, 2, 6, 1, 5, 3, 7, 2, 1)
    #else
    #define FASTLOSS_PANEL 4
    #define FASTLOSS_TRANSPOSE_PANEL(name, real)                                                                    \\
        static inline void name(const real* x, ptrdiff_t x_step, real* y, ptrdiff_t y_step) {                       \\
            for (int i = 0; i < 4; i++)                                                                             \\
                for (int j = 0; j < 4; j++) y[j * y_step + i] = x[i * x_step + j];                                  \\
        }
    FASTLOSS_TRANSPOSE_PANEL(fastloss_split_float, float)
    FASTLOSS_TRANSPOSE_PANEL(fastloss_join_float, float)
    FASTLOSS_TRANSPOSE_PANEL(fastloss_panel_double, double)
    #endif
    /* what does not fill a panel runs through the last one again */
    #define FASTLOSS_TRANSPOSE(name, real, panel, down, across)                                                     \\
        __attribute__((noinline)) static void name(                                                                 \\
            const real* x, ptrdiff_t x_step, ptrdiff_t rows, ptrdiff_t columns, real* y, ptrdiff_t y_step           \\
        ) {                                                                                                         \\
            ptrdiff_t i, j, last_i = rows - down, last_j = columns - across;                                        \\
            if (last_i < 0 || last_j < 0) {                                                                         \\
                for (i = 0; i < rows; i++)                                                                          \\
                    for (j = 0; j < columns; j++) y[j * y_step + i] = x[i * x_step + j];                            \\
                return;                                                                                             \\
            }                                                                                                       \\
            for (j = 0;; j = j + across < last_j ? j + across : last_j) {                                           \\
                for (i = 0;; i = i + down < last_i ? i + down : last_i) {                                           \\
                    panel(x + i * x_step + j, x_step, y + j * y_step + i, y_step);                                  \\
                    if (i == last_i) break;                                                                         \\
                }                                                                                                   \\
                if (j == last_j) break;                                                                             \\
            }                                                                                                       \\
        }
    FASTLOSS_TRANSPOSE(fastloss_samples_to_lanes_float, float, fastloss_split_float, FASTLOSS_PANEL, 4)
    FASTLOSS_TRANSPOSE(fastloss_lanes_to_samples_float, float, fastloss_join_float, 4, FASTLOSS_PANEL)
    FASTLOSS_TRANSPOSE(fastloss_transpose_double, double, fastloss_panel_double, 4, 4)
    /* y[l] = x[label[l] * step + l] */
    #define FASTLOSS_GATHER(name, real)                                                                             \\
        __attribute__((noinline)) static void name(                                                                 \\
            const real* x, ptrdiff_t step, const int64_t* label, int lanes, real* restrict y                        \\
        ) {                                                                                                         \\
            _Pragma("GCC unroll 8")                                                                                 \\
            for (int l = 0; l < lanes; l++) y[l] = x[label[l] * step + l];                                          \\
        }
    FASTLOSS_GATHER(fastloss_gather_float, float)
    FASTLOSS_GATHER(fastloss_gather_double, double)
    """
    void fastloss_samples_to_lanes_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t
    ) noexcept nogil
    void fastloss_lanes_to_samples_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t
    ) noexcept nogil
    void fastloss_transpose_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, double*, Py_ssize_t
    ) noexcept nogil
    void fastloss_gather_float(const float*, Py_ssize_t, const int64_t*, int, float*) noexcept nogil
    void fastloss_gather_double(const double*, Py_ssize_t, const int64_t*, int, double*) noexcept nogil


cdef inline void samples_to_lanes(
    const real* x, Py_ssize_t step, Py_ssize_t samples, Py_ssize_t classes, real* y
) noexcept nogil:
    """y[c, l] = x[l, c]."""
    if real is float:
        fastloss_samples_to_lanes_float(x, step, samples, classes, y, LANES)
    else:
        fastloss_transpose_double(x, step, samples, classes, y, LANES)


cdef inline void lanes_to_samples(
    const real* y, Py_ssize_t classes, Py_ssize_t samples, real* x, Py_ssize_t step
) noexcept nogil:
    """The inverse."""
    if real is float:
        fastloss_lanes_to_samples_float(y, LANES, classes, samples, x, step)
    else:
        fastloss_transpose_double(y, LANES, classes, samples, x, step)


cdef inline void split(const real* x, int columns, real* y) noexcept nogil:
    """y[j, l] = x[l, j] of LANES neighbouring rows; `columns` is a literal, for which the loads vectorise."""
    cdef Py_ssize_t l
    cdef int j
    for l in range(LANES):
        for j in range(columns):
            y[j * LANES + l] = x[l * columns + j]


cdef inline void join(const real* x, int columns, real* y) noexcept nogil:
    """The inverse of `split`."""
    cdef Py_ssize_t l
    cdef int j
    for l in range(LANES):
        for j in range(columns):
            y[l * columns + j] = x[j * LANES + l]


cdef inline void gather(const real* x, Py_ssize_t step, const int64_t* label, real* selected) noexcept nogil:
    """x[label[l], l] of a tile, `step` from one class to the next."""
    if real is float:
        fastloss_gather_float(x, step, label, LANES, selected)
    else:
        fastloss_gather_double(x, step, label, LANES, selected)
