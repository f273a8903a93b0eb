/* Units: the loops of the kernels in a few files, each compiled once for each instruction set, with FASTLOSS_ISA.

   All are linked into the one module that Python loads, _entry. There FASTLOSS_ISAS(X) is X(base) X(avx2) ..., of what
   is built. A name that a unit shows to others carries its instruction set. */
#ifndef FASTLOSS_UNITS_H
#define FASTLOSS_UNITS_H

#define FASTLOSS_JOINED(a, b) a##_##b
#define FASTLOSS_OF(name, isa) FASTLOSS_JOINED(name, isa)

#ifdef FASTLOSS_ISA
#define fastloss_odd_rows FASTLOSS_OF(fastloss_odd_rows, FASTLOSS_ISA)
#define fastloss_show_rows FASTLOSS_OF(fastloss_show_rows, FASTLOSS_ISA)
#define fastloss_show_tiles FASTLOSS_OF(fastloss_show_tiles, FASTLOSS_ISA)
#define fastloss_show_labels FASTLOSS_OF(fastloss_show_labels, FASTLOSS_ISA)
#define fastloss_show_points FASTLOSS_OF(fastloss_show_points, FASTLOSS_ISA)

void fastloss_odd_rows(void* job, const void* samples);  /* of `rows`, for `tiles` */
#endif

#ifdef FASTLOSS_ISAS
#define FASTLOSS_SHOWN(isa) \
    void FASTLOSS_OF(fastloss_show_rows, isa)(void*), FASTLOSS_OF(fastloss_show_tiles, isa)(void*), \
        FASTLOSS_OF(fastloss_show_labels, isa)(void*), FASTLOSS_OF(fastloss_show_points, isa)(void*);
FASTLOSS_ISAS(FASTLOSS_SHOWN)

#define FASTLOSS_SHOW(isa) { \
        #isa, \
        {FASTLOSS_OF(fastloss_show_rows, isa), FASTLOSS_OF(fastloss_show_tiles, isa), \
         FASTLOSS_OF(fastloss_show_labels, isa), FASTLOSS_OF(fastloss_show_points, isa)} \
    },
static const struct {
    const char* isa;
    void (*show[4])(void*);
} fastloss_built[] = { FASTLOSS_ISAS(FASTLOSS_SHOW) };
#define fastloss_builds ((int)(sizeof(fastloss_built) / sizeof(*fastloss_built)))

static inline const char* fastloss_isa(int k) { return fastloss_built[k].isa; }
static inline void fastloss_show(int k, void* units) {  /* what the k-th instruction set has, into a struct Units */
    for (int unit = 0; unit < 4; ++unit) fastloss_built[k].show[unit](units);
}
#endif

#endif
