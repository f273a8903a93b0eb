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

void fastloss_odd_rows(void* job, const void* tile);  /* of `rows`, for `tiles` */
#endif

#ifdef FASTLOSS_ISAS
#define FASTLOSS_UNITS(X, isa) X(rows, isa) X(tiles, isa) X(labels, isa) X(points, isa)
#define FASTLOSS_SHOW(unit, isa) fastloss_show_##unit##_##isa,
#define FASTLOSS_DECLARED(unit, isa) void fastloss_show_##unit##_##isa(void*);
#define FASTLOSS_DECLARE(isa) FASTLOSS_UNITS(FASTLOSS_DECLARED, isa)
#define FASTLOSS_BUILT(isa) {#isa, {FASTLOSS_UNITS(FASTLOSS_SHOW, isa) NULL}},
FASTLOSS_ISAS(FASTLOSS_DECLARE)
static const struct {
    const char* isa;
    void (*show[5])(void*);  /* up to NULL */
} fastloss_built[] = { FASTLOSS_ISAS(FASTLOSS_BUILT) };
#define fastloss_builds ((int)(sizeof(fastloss_built) / sizeof(*fastloss_built)))

static inline const char* fastloss_isa(int k) { return fastloss_built[k].isa; }
static inline void fastloss_show(int k, void* units) {  /* what the k-th instruction set has, into a struct Units */
    for (void (*const* show)(void*) = fastloss_built[k].show; *show; ++show) (*show)(units);
}
#endif

#endif
