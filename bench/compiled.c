/* The loop of bench/compiled.py in C: softmax of one row after another, by the address of the function. */
#include <stddef.h>

typedef ptrdiff_t rows_function(ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, float*);

ptrdiff_t one_by_one(rows_function* softmax, ptrdiff_t rows, ptrdiff_t classes, const float* x, float* out) {
    ptrdiff_t status = 0;
    for (ptrdiff_t i = 0; i < rows; i++) status |= softmax(1, classes, x + i * classes, classes, out + i * classes);
    return status;
}
