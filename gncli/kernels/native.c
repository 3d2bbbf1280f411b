/* The loops of plain.py in C: the same bits, on every processor.
 *
 * plain.py is the specification. What both must keep to:
 *   - A sum runs over 64 lanes, from the first row to the last, and then over the lanes by halves; or first to last.
 *   - A product is rounded before it is added: no fused multiply-add, no reordering. The flags in build.py say so.
 *   - Nothing is taken from libm, and only memcpy from libc.
 *
 * This file includes itself once for each instruction set. What is compiled for one is called a body; its functions
 * end in the name of the body, as in unshuffle_avx2. native.py looks them up by that name.
 */

#ifndef BODY /* the outer pass: what all bodies share */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h> /* least and most of two vectors, which C cannot say */
#endif

#define LANES 64
#define CHUNK 512 /* elements that the map works on at a time; what it makes of them stays in the first cache */

/* What normalize() is given; see plain.normalize. Arrays that are not needed are NULL. */
struct map {
    const char *values;
    int64_t dtype, swapped, made, checked; /* made: the dtype of y; checked: that of z */
    double least, shift, largest;          /* of the float that y is rounded to; shift is 0 if that is `made` itself */
    double beyond;                         /* what stands for a positive result that overflows, for `rounds` */
    double limit;                          /* see right(); 0 if nothing is audited */
    ptrdiff_t num_x, length, width;
    const double *hi, *lo, *rstd, *slope, *offset, *tail, *rest; /* (X, Q) */
    const uint64_t *base;
    const double *gamma, *beta, *gamma_rest; /* (C,); the last one only if `rest` is there */
    ptrdiff_t channels, inner, start;
    int64_t rounds, loses; /* z is rounded before gamma and beta; gamma has a rest */
    int64_t activation;
    void *z, *y;
    int64_t *open; /* takes the positions of open elements, as long as there is room */
    ptrdiff_t room;
    int64_t wrong, zeros; /* what audit() counts */
};

/* The activations, by number: activations.py has the same order. */
enum { NONE, RELU, SILU, GELU, GELU_TANH };

/* A float that y is rounded to: see floats.Float. `beyond` stands for what overflows. */
struct form {
    double least, shift, largest, beyond;
};

#define TILE 4096 /* elements that are worked on at a time */
#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
#define INFINITE __builtin_inf()
#define SMALL 0x1p-200 /* as in plain.py */
#define LARGE 0x1p+200
#define NO_DIGITS (1 << 20)
#define ULPS (1 << 16)
#define FEW 8 /* distances in ULP below it are counted by comparing */

/* The dtypes, by number: native.py has the same table. */
enum { BOOL, I8, U8, I16, U16, I32, U32, I64, U64, F16, F32, F64 };

/* What moments() is asked for, and where it puts what it finds: arrays of one entry for each set, or NULL. */
struct moments {
    const char *values;
    ptrdiff_t sets, rows, columns;      /* A, R, Q; Q is 0 for values of shape (A, R) */
    ptrdiff_t set_stride, row_stride;   /* bytes; the last axis is contiguous */
    int64_t dtype, swapped, about_zero; /* swapped: of the other byte order */
    const char *by;                     /* factors of values of float64 in rows of 64 and more; or NULL */
    ptrdiff_t by_stride;
    int64_t by_dtype;
    double *scratch;                    /* 2 * 256 * 64 doubles */
    double *n, *hi, *lo, *m2, *square;
    void *least, *most; /* int64_t or uint64_t for those dtypes, else double */
    double *nan, *posinf, *neginf;
    int32_t *power;
    double *zeros, *total, *l1, *cube, *fourth;
    int64_t *argmin, *argmax, *first_nan, *first_inf;
    int64_t *odd; /* set to 1 where nan, posinf, neginf or power may not be 0 */
};

/* What limbs() is given, and where it puts the sums, (11, sets), and whether these are late: see plain.limbs. */
struct limbs {
    const char *values;
    ptrdiff_t sets, rows, columns, set_stride, row_stride; /* as in struct moments */
    int64_t dtype, swapped;
    double *scratch; /* 256 * 64 doubles */
    const double *center, *unit;
    int64_t *sums;
    uint8_t *late;
};

/* Moments that pool() is given, and those that it finds: a number of sets, and what is unevaluated hi + lo. The bounds
 * of the errors of the mean and of m2 are NULL where there are none. */
#define U 0x1p-53
#define UP (1 + 0x1p-20)
enum { N, HI, LO, M2, LEAST, MOST, OF_MEAN, OF_M2, FIELDS };
struct sets {
    double *field[FIELDS];
};

/* What tally() is given, of each tensor or of both, and where it puts what it finds: arrays of one entry for each set. */
struct tally {
    const char *values[2];
    ptrdiff_t sets, rows, columns; /* as in struct moments */
    ptrdiff_t set_stride[2], row_stride[2];
    int64_t dtype[2], swapped[2], nan_differs;
    double rtol, atol;
    double *scratch; /* 2 * 256 * 64 doubles */
    double *n, *nan, *inf, *outside, *total, *square, *product, *a_square, *b_square;
    double *low, *high, *worst, *excess;
    int64_t *rank, *first;
    int32_t *power, *a_power, *b_power;
};

/* 1 / k! of k = 11, 10, ..., 0 in two doubles: activations._factorials. */
static const double inverse[][2] = {
    {0x1.ae64567f544e4p-26, -0x1.c062e06d1f209p-80}, {0x1.27e4fb7789f5cp-22, 0x1.cbbc05b4fa99ap-76},
    {0x1.71de3a556c734p-19, -0x1.c154f8ddc6c00p-73}, {0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-76},
    {0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-73}, {0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65},
    {0x1.1111111111111p-7, 0x1.1111111111111p-63}, {0x1.5555555555555p-5, 0x1.5555555555555p-59},
    {0x1.5555555555555p-3, 0x1.5555555555555p-57}, {0x1.0000000000000p-1, 0},
    {0x1.0000000000000p+0, 0}, {0x1.0000000000000p+0, 0},
};

/* 1 / (2 k + 1)!! of k = 63, 62, ..., 0 in two doubles: activations._odd_factorials. */
static const double odd[][2] = {
    {0x1.c82b0ace19470p-357, 0x1.f4f5bc15172b1p-414}, {0x1.c49ab4b87d147p-350, 0x1.7c42f4273b3f3p-405},
    {0x1.b9ff147c2a260p-343, -0x1.ee534ec8d8122p-397}, {0x1.a8bb1daf50808p-336, -0x1.b6081b69ff42ep-391},
    {0x1.9180e20fba197p-329, 0x1.70f62b0ae6596p-383}, {0x1.7545d22a9f03bp-322, -0x1.20fb23fbddd8ep-376},
    {0x1.5531d21af5596p-315, -0x1.50258ee438c84p-369}, {0x1.328ac2c4386e4p-308, 0x1.e1fe419ef4fc1p-362},
    {0x1.0e9e7ff139d16p-301, -0x1.367d8a11abb97p-355}, {0x1.d55ae5e660472p-295, -0x1.7a81bb76a5d5ap-349},
    {0x1.8faf67c62dfc9p-288, -0x1.e4a4f346126fep-343}, {0x1.4e1ca0bfaa712p-281, -0x1.6521e35c93698p-336},
    {0x1.12137bdd39d0dp-274, -0x1.827ae640f8765p-328}, {0x1.b9175b58090c0p-268, 0x1.4202356f7021ap-322},
    {0x1.5c0c6e1377238p-261, -0x1.01ea41d611857p-315}, {0x1.0d319d230e257p-254, 0x1.e2134451b9cb2p-310},
    {0x1.97ff32292170cp-248, 0x1.354a6717bb2fbp-305}, {0x1.2ecf673a86d1bp-241, -0x1.0d3963be31895p-297},
    {0x1.b80562010be8bp-235, 0x1.1c644d87d0024p-290}, {0x1.38d3d3acbe777p-228, -0x1.4ba161c2e43cdp-284},
    {0x1.b306925c38de1p-222, 0x1.7cb4e5033ea6ep-276}, {0x1.27ae777aaea6fp-215, 0x1.7585e750692adp-270},
    {0x1.88b3b6aeeff5cp-209, -0x1.57f514649a299p-263}, {0x1.fd4910eadf32bp-203, -0x1.f84759c9dfb7ap-259},
    {0x1.42483cb4a13e1p-196, 0x1.10716c972036fp-251}, {0x1.8dd12aeef708ap-190, -0x1.9f67fbeae8787p-246},
    {0x1.de9fa7a781366p-184, -0x1.73c91b169fb0fp-240}, {0x1.18718c3c25b5ep-177, -0x1.2675f577d0647p-231},
    {0x1.3fe183f49b037p-171, -0x1.bf7a2ff2a6ca2p-227}, {0x1.62de2e635bf7dp-165, -0x1.b06b8d3131084p-221},
    {0x1.7e978a031f273p-159, -0x1.648cfd0e42374p-213}, {0x1.9086a47b449d0p-153, 0x1.abc671512ae30p-211},
    {0x1.96c8bf0d31af7p-147, 0x1.1b2758b166f8fp-201}, {0x1.906d9c10fce8bp-141, 0x1.a6babb4ea15d0p-195},
    {0x1.7da878c0310ddp-135, -0x1.f45815e438cd6p-191}, {0x1.5fd74f512d38cp-129, -0x1.83504d0b99175p-183},
    {0x1.395bc2a44c468p-123, 0x1.670c7b61aba74p-177}, {0x1.0d4adb45318cap-117, -0x1.4b7145f8107c5p-171},
    {0x1.be03fb2a9a10ep-112, 0x1.b0c641d24b224p-170}, {0x1.636b2c25f2c57p-106, 0x1.6b1bbf8e727bfp-161},
    {0x1.101e0dcd0ddf3p-100, -0x1.04ff60ab782c9p-154}, {0x1.8fac24452c5fdp-95, -0x1.df5715fbd8817p-149},
    {0x1.19050980a3336p-89, -0x1.c1093b75143b0p-143}, {0x1.799ec4c4db4d0p-84, -0x1.b6467e5532f50p-142},
    {0x1.e3d36c1c38faap-79, 0x1.dce75ae22d6b6p-133}, {0x1.26d4d5e132b8cp-73, -0x1.f58c1278b14a4p-129},
    {0x1.54e6174c62a5ap-68, -0x1.10fa7d56e33f7p-122}, {0x1.74dba97b8be52p-63, 0x1.2adc0dd1eee53p-118},
    {0x1.808286c768445p-58, -0x1.25e688dfc0d1dp-112}, {0x1.747e72912d023p-53, -0x1.bcb75498c2cb4p-107},
    {0x1.519297d390c9fp-48, 0x1.4cf9db558f77cp-102}, {0x1.1cd3b01a822a6p-43, 0x1.b8f2d110310d1p-97},
    {0x1.bd0ac3296b624p-39, 0x1.87db354a65235p-96}, {0x1.3fdfbc45c52eap-34, -0x1.732d38d943a75p-90},
    {0x1.a3d5a71b92cd3p-30, 0x1.8d4a562d73466p-90}, {0x1.f28db670be53bp-26, -0x1.b8a0dee6a81c7p-80},
    {0x1.08db48ebe51c7p-21, 0x1.d7aa2655dac39p-77}, {0x1.f09b28ba4d955p-18, 0x1.5d17c1f83e8bbp-72},
    {0x1.937e11175f095p-14, 0x1.5ba34d99b2d18p-68}, {0x1.1566abc011567p-10, -0x1.50ffbaa655100p-64},
    {0x1.3813813813814p-7, -0x1.fb1fb1fb1fb20p-61}, {0x1.1111111111111p-4, 0x1.1111111111111p-60},
    {0x1.5555555555555p-2, 0x1.5555555555555p-56}, {0x1.0000000000000p+0, 0},
};

/* 2**(-j / 64) of j = 0, 1, ..., 63 in two doubles: activations._powers. */
static const double powers[][2] = {
    {0x1.0000000000000p+0, 0}, {0x1.fa7c1819e90d8p-1, 0x1.74853f3a5931ep-56},
    {0x1.f50765b6e4540p-1, 0x1.9d3e12dd8a18bp-55}, {0x1.efa1bee615a27p-1, 0x1.dc7f486a4b6b0p-55},
    {0x1.ea4afa2a490dap-1, -0x1.e9c23179c2893p-55}, {0x1.e502ee78b3ff6p-1, 0x1.39e8980a9cc8fp-56},
    {0x1.dfc97337b9b5fp-1, -0x1.1a5cd4f184b5cp-55}, {0x1.da9e603db3285p-1, 0x1.c2300696db532p-55},
    {0x1.d5818dcfba487p-1, 0x1.2ed02d75b3707p-56}, {0x1.d072d4a07897cp-1, -0x1.cbc3743797a9cp-55},
    {0x1.cb720dcef9069p-1, 0x1.503cbd1e949dbp-57}, {0x1.c67f12e57d14bp-1, 0x1.2884dff483cadp-55},
    {0x1.c199bdd85529cp-1, 0x1.11065895048ddp-56}, {0x1.bcc1e904bc1d2p-1, 0x1.23dd07a2d9e84p-56},
    {0x1.b7f76f2fb5e47p-1, -0x1.5584f7e54ac3bp-57}, {0x1.b33a2b84f15fbp-1, -0x1.2805e3084d708p-58},
    {0x1.ae89f995ad3adp-1, 0x1.7a1cd345dcc81p-55}, {0x1.a9e6b5579fdbfp-1, 0x1.0fac90ef7fd31p-55},
    {0x1.a5503b23e255dp-1, -0x1.d2f6edb8d41e1p-55}, {0x1.a0c667b5de565p-1, -0x1.359495d1cd533p-55},
    {0x1.9c49182a3f090p-1, 0x1.c7c46b071f2bep-57}, {0x1.97d829fde4e50p-1, -0x1.d185b7c1b85d1p-55},
    {0x1.93737b0cdc5e5p-1, -0x1.75fc781b57ebcp-58}, {0x1.8f1ae99157736p-1, 0x1.5cc13a2e3976cp-56},
    {0x1.8ace5422aa0dbp-1, 0x1.6e9f156864b27p-55}, {0x1.868d99b4492edp-1, -0x1.fc6f89bd4f6bap-55},
    {0x1.82589994cce13p-1, -0x1.d4c1dd41532d8p-55}, {0x1.7e2f336cf4e62p-1, 0x1.05d02ba15797ep-57},
    {0x1.7a11473eb0187p-1, -0x1.41577ee04992fp-56}, {0x1.75feb564267c9p-1, -0x1.0245957316dd3p-55},
    {0x1.71f75e8ec5f74p-1, -0x1.16e4786887a99p-56}, {0x1.6dfb23c651a2fp-1, -0x1.bbe3a683c88abp-58},
    {0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55}, {0x1.6623882552225p-1, -0x1.bb60987591c34p-55},
    {0x1.6247eb03a5585p-1, -0x1.383c17e40b497p-55}, {0x1.5e76f15ad2148p-1, 0x1.ba6f93080e65ep-55},
    {0x1.5ab07dd485429p-1, 0x1.6324c054647adp-55}, {0x1.56f4736b527dap-1, 0x1.9bb2c011d93adp-55},
    {0x1.5342b569d4f82p-1, -0x1.07abe1db13cadp-56}, {0x1.4f9b2769d2ca7p-1, -0x1.4b309d25957e3p-55},
    {0x1.4bfdad5362a27p-1, 0x1.d4397afec42e2p-57}, {0x1.486a2b5c13cd0p-1, 0x1.3c1a3b69062f0p-57},
    {0x1.44e086061892dp-1, 0x1.89b7a04ef80d0p-60}, {0x1.4160a21f72e2ap-1, -0x1.ef3691c309278p-59},
    {0x1.3dea64c123422p-1, 0x1.ada0911f09ebcp-56}, {0x1.3a7db34e59ff7p-1, -0x1.5e436d661f5e3p-57},
    {0x1.371a7373aa9cbp-1, -0x1.63aeabf42eae2p-55}, {0x1.33c08b26416ffp-1, 0x1.32721843659a6p-55},
    {0x1.306fe0a31b715p-1, 0x1.6f46ad23182e4p-56}, {0x1.2d285a6e4030bp-1, 0x1.0024754db41d5p-55},
    {0x1.29e9df51fdee1p-1, 0x1.612e8afad1255p-56}, {0x1.26b4565e27cddp-1, 0x1.2bd339940e9d9p-56},
    {0x1.2387a6e756238p-1, 0x1.9b07eb6c70573p-55}, {0x1.2063b88628cd6p-1, 0x1.dc775814a8495p-56},
    {0x1.1d4873168b9aap-1, 0x1.e016e00a2643cp-55}, {0x1.1a35beb6fcb75p-1, 0x1.e5b4c7b4968e4p-56},
    {0x1.172b83c7d517bp-1, -0x1.19041b9d78a76p-56}, {0x1.1429aaea92de0p-1, -0x1.32fbf9af1369ep-55},
    {0x1.11301d0125b51p-1, -0x1.6c51039449b3ap-55}, {0x1.0e3ec32d3d1a2p-1, 0x1.03a1727c57b53p-60},
    {0x1.0b5586cf9890fp-1, 0x1.8a62e4adc610bp-55}, {0x1.0874518759bc8p-1, 0x1.186be4bb284ffp-58},
    {0x1.059b0d3158574p-1, 0x1.d73e2a475b465p-56}, {0x1.02c9a3e778061p-1, -0x1.19083535b085dp-57},
};

/* activations.QUICK_TAIL, and QUICK_TAIL_IN_TWO. */
static const double quick_tail[] = {
    -0x1.3a6305d112396p-38, -0x1.906e153269137p-36, -0x1.613a23fadfccdp-37, 0x1.5a1a7384b9f70p-33, 0x1.1a2ee8745aff6p-32,
    -0x1.6b86d6cdffb72p-31, -0x1.0a69ba8d1954cp-29, 0x1.4357eee4e28cfp-29, 0x1.9954d6e9935e3p-27, -0x1.2091c52f5c9e1p-27,
    -0x1.31577d6a22208p-24, 0x1.56d48d880b8f5p-25, 0x1.d50801db08e24p-22, -0x1.670d6124f6288p-22, -0x1.73e809c510053p-19,
    0x1.0b13538867e18p-18, 0x1.17df513d195a3p-16,
};
static const double quick_tail_in_two[][2] = {
    {-0x1.a170066e6ffa3p-15, 0x1.0175770b44a40p-69}, {-0x1.f21498533a0a4p-15, -0x1.a58659c387e66p-69},
    {0x1.1daf1abeae237p-11, -0x1.db08f3aac2f9ep-66}, {-0x1.a250376e575d2p-11, -0x1.567d534869480p-67},
    {-0x1.88590e978803dp-9, 0x1.8f0bd5c865666p-63}, {0x1.54b4d4f485122p-6, -0x1.3a9225e650bb6p-60},
    {-0x1.1b1c254ca4532p-4, 0x1.437bc09ce86b3p-58}, {0x1.51f6329f01c12p-3, -0x1.d554aaa2eb6a0p-58},
    {-0x1.410ed5f875943p-2, -0x1.e14142075b54ap-56}, {0x1.fb31653876f88p-2, 0x1.5e5b99e75d174p-58},
    {-0x1.54ad03f27ca18p-1, -0x1.12fccbf08aa82p-58}, {0x1.89d3abe1f95aep-1, -0x1.0450bc408d643p-56},
};

#define EXPORT __attribute__((visibility("default")))

#define PASTE_(name, body) name##_##body
#define PASTE(name, body) PASTE_(name, body)
#define NAME(name) PASTE(name, BODY)

/* What this was compiled from: the checksum of this file and of build.py. */
#ifndef SOURCE
#define SOURCE 0u
#endif
extern EXPORT const uint32_t source;
const uint32_t source = SOURCE;

/* Return whether this processor can run a body: 0 is the baseline, 1 is avx2, 2 is avx512. */
EXPORT int supports(int body);

EXPORT int supports(int body)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (body == 1)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (body == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    return body == 0;
}

/* WIDTH is the number of bytes of a vector register. */
#define BODY baseline
#define WIDTH 16
#include "native.c"
#undef BODY
#undef WIDTH

#if defined(__x86_64__)

#define BODY avx2
#define WIDTH 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "native.c"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef BODY
#undef WIDTH

#define BODY avx512
#define WIDTH 64
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")
#endif
#include "native.c"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef BODY
#undef WIDTH

#endif

#else /* a body */

/* --- vectors ------------------------------------------------------------------------------------------------------ */

#define vd NAME(vd)
#define vf NAME(vf)
#define vl NAME(vl)
#define vu NAME(vu)
typedef double vd __attribute__((vector_size(WIDTH)));
typedef float vf __attribute__((vector_size(WIDTH / 2)));
typedef int64_t vl __attribute__((vector_size(WIDTH)));
typedef uint64_t vu __attribute__((vector_size(WIDTH))); /* whose sums may wrap around */

#define PER ((int)(WIDTH / sizeof(double))) /* doubles in a vector */
#define INLINE static inline __attribute__((always_inline, unused))
#define SIZE(narrow) ((narrow) ? (ptrdiff_t)sizeof(float) : (ptrdiff_t)sizeof(double))

/* Return the doubles at `from`, where floats (`narrow`) or doubles are stored, at any address. */
INLINE vd NAME(load)(const char *from, int narrow)
{
    if (narrow) {
        vf found;
        memcpy(&found, from, sizeof found);
        return __builtin_convertvector(found, vd);
    }
    vd found;
    memcpy(&found, from, sizeof found);
    return found;
}

INLINE double NAME(load_one)(const char *from, int narrow)
{
    if (narrow) {
        float found;
        memcpy(&found, from, sizeof found);
        return (double)found;
    }
    double found;
    memcpy(&found, from, sizeof found);
    return found;
}

/* Return the lesser of each pair, and `b` where that is unordered; C has no ?: for vectors. */
INLINE vd NAME(min)(vd a, vd b)
{
#if WIDTH == 64
    return (vd)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif WIDTH == 32
    return (vd)_mm256_min_pd((__m256d)a, (__m256d)b);
#elif defined(__x86_64__)
    return (vd)_mm_min_pd((__m128d)a, (__m128d)b);
#else
    vl less = a < b;
    return (vd)(((vl)a & less) | ((vl)b & ~less));
#endif
}

INLINE vd NAME(max)(vd a, vd b)
{
#if WIDTH == 64
    return (vd)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif WIDTH == 32
    return (vd)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__x86_64__)
    return (vd)_mm_max_pd((__m128d)a, (__m128d)b);
#else
    vl more = a > b;
    return (vd)(((vl)a & more) | ((vl)b & ~more));
#endif
}

/* Return a * b + c, where product and sum are exact: then it does not matter that they are rounded once. */
INLINE vd NAME(exact_sum)(vd a, vd b, vd c)
{
#if WIDTH == 64
    return (vd)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif WIDTH == 32
    return (vd)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

INLINE vd NAME(all)(double value)
{
    return value - (vd){0};
}

/* Return `a` where `which` is all ones, and `b` where it is 0. */
INLINE vd NAME(pick)(vl which, vd a, vd b)
{
    return (vd)(((vl)a & which) | ((vl)b & ~which));
}

INLINE vd NAME(size_of)(vd value)
{
    return (vd)((vl)value & INT64_MAX);
}

INLINE int NAME(finite)(double value)
{
    return value - value == 0;
}

/* Return the sum of the lanes by halves, which are overwritten. */
INLINE double NAME(halves)(double *lanes)
{
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    return lanes[0];
}

/* --- moments ------------------------------------------------------------------------------------------------------ */

/* A panel: `full` rows of 64 lanes, `stride` bytes apart, then `rest` lanes of one more row. */
#define PANEL const char *from, ptrdiff_t stride, ptrdiff_t full, int rest, int narrow

#define WIDE (WIDTH == 64 ? 8 : 4) /* vectors whose sums and extremes fit the registers */
#define DEEP (WIDTH == 64 ? 4 : 2) /* vectors whose sums of two powers do */
#define FOUR (WIDTH == 64 ? 4 : 2) /* vectors whose sums of four powers do */

struct NAME(panel) {
    double sum[LANES], least[LANES], most[LANES], middle[LANES], powers[4][LANES], l1[LANES], zeros[LANES];
    double unit[LANES], lower[LANES]; /* deviations are summed in two parts, see plain._measured */
};

/* Take the sum and the extremes of each lane. */
INLINE void NAME(pass_sums)(PANEL, struct NAME(panel) *to)
{
    for (int first = 0; first < LANES; first += WIDE * PER) {
        const char *at = from + first * SIZE(narrow);
        vd sum[WIDE], least[WIDE], most[WIDE];
        for (int k = 0; k < WIDE; k++) {
            sum[k] = NAME(all)(0);
            least[k] = NAME(all)(INFINITE);
            most[k] = NAME(all)(-INFINITE);
        }
        for (ptrdiff_t r = 0; r < full; r++, at += stride)
            for (int k = 0; k < WIDE; k++) {
                vd x = NAME(load)(at + k * PER * SIZE(narrow), narrow);
                sum[k] += x;
                least[k] = NAME(min)(x, least[k]);
                most[k] = NAME(max)(x, most[k]);
            }
        memcpy(to->sum + first, sum, sizeof sum);
        memcpy(to->least + first, least, sizeof least);
        memcpy(to->most + first, most, sizeof most);
    }
    for (int j = 0; j < rest; j++) {
        double x = NAME(load_one)(from + full * stride + j * SIZE(narrow), narrow);
        to->sum[j] += x;
        to->least[j] = x < to->least[j] ? x : to->least[j];
        to->most[j] = x > to->most[j] ? x : to->most[j];
    }
}

/* Take the sums of the first `count` powers, 2 or 4, of the deviations from the middle of each lane; of the first power
 * the upper digits and the lower ones apart. */
INLINE void NAME(pass_powers)(PANEL, int count, struct NAME(panel) *to)
{
    const int step = count > 2 ? FOUR : DEEP;
    for (int first = 0; first < LANES; first += step * PER) {
        const char *at = from + first * SIZE(narrow);
        vd sums[4][DEEP], lower[DEEP], middle[DEEP], unit[DEEP];
        for (int k = 0; k < step; k++) {
            memcpy(&middle[k], to->middle + first + k * PER, sizeof middle[k]);
            memcpy(&unit[k], to->unit + first + k * PER, sizeof unit[k]);
            lower[k] = NAME(all)(0);
            for (int p = 0; p < count; p++)
                sums[p][k] = NAME(all)(0);
        }
        for (ptrdiff_t r = 0; r < full; r++, at += stride)
            for (int k = 0; k < step; k++) {
                vd d = NAME(load)(at + k * PER * SIZE(narrow), narrow) - middle[k];
                vd square = d * d, upper = (d + unit[k]) - unit[k];
                sums[0][k] += upper;
                lower[k] += d - upper;
                sums[1][k] += square;
                if (count > 2) {
                    sums[2][k] += square * d;
                    sums[3][k] += square * square;
                }
            }
        for (int k = 0; k < step; k++) {
            for (int p = 0; p < count; p++)
                memcpy(to->powers[p] + first + k * PER, &sums[p][k], sizeof sums[p][k]);
            memcpy(to->lower + first + k * PER, &lower[k], sizeof lower[k]);
        }
    }
    for (int j = 0; j < rest; j++) {
        double d = NAME(load_one)(from + full * stride + j * SIZE(narrow), narrow) - to->middle[j];
        double square = d * d, upper = (d + to->unit[j]) - to->unit[j];
        to->powers[0][j] += upper;
        to->lower[j] += d - upper;
        to->powers[1][j] += square;
        if (count > 2) {
            to->powers[2][j] += square * d;
            to->powers[3][j] += square * square;
        }
    }
}

/* Take the sum of absolute values of each lane, and count its zeros. */
INLINE void NAME(pass_sizes)(PANEL, struct NAME(panel) *to)
{
    for (int first = 0; first < LANES; first += WIDE * PER) {
        const char *at = from + first * SIZE(narrow);
        vd l1[WIDE];
        vl zeros[WIDE];
        for (int k = 0; k < WIDE; k++) {
            l1[k] = NAME(all)(0);
            zeros[k] = (vl){0};
        }
        for (ptrdiff_t r = 0; r < full; r++, at += stride)
            for (int k = 0; k < WIDE; k++) {
                vd x = NAME(load)(at + k * PER * SIZE(narrow), narrow);
                l1[k] += (vd)((vl)x & INT64_MAX);
                zeros[k] -= x == 0;
            }
        memcpy(to->l1 + first, l1, sizeof l1);
        for (int k = 0; k < WIDE; k++)
            for (int j = 0; j < PER; j++)
                to->zeros[first + k * PER + j] = (double)zeros[k][j];
    }
    for (int j = 0; j < rest; j++) {
        double x = NAME(load_one)(from + full * stride + j * SIZE(narrow), narrow);
        to->l1[j] += x < 0 ? -x : x;
        to->zeros[j] += x == 0 ? 1 : 0;
    }
}

/* Take the sum, the extremes and the sum of squares of each lane at once: the middle is 0. */
INLINE void NAME(pass_about_zero)(PANEL, struct NAME(panel) *to)
{
    for (int first = 0; first < LANES; first += FOUR * PER) {
        const char *at = from + first * SIZE(narrow);
        vd sum[FOUR], least[FOUR], most[FOUR], square[FOUR];
        for (int k = 0; k < FOUR; k++) {
            sum[k] = square[k] = NAME(all)(0);
            least[k] = NAME(all)(INFINITE);
            most[k] = NAME(all)(-INFINITE);
        }
        for (ptrdiff_t r = 0; r < full; r++, at += stride)
            for (int k = 0; k < FOUR; k++) {
                vd x = NAME(load)(at + k * PER * SIZE(narrow), narrow);
                sum[k] += x;
                square[k] += x * x;
                least[k] = NAME(min)(x, least[k]);
                most[k] = NAME(max)(x, most[k]);
            }
        memcpy(to->sum + first, sum, sizeof sum);
        memcpy(to->powers[0] + first, sum, sizeof sum);
        memcpy(to->powers[1] + first, square, sizeof square);
        memcpy(to->least + first, least, sizeof least);
        memcpy(to->most + first, most, sizeof most);
    }
    for (int j = 0; j < rest; j++) {
        double x = NAME(load_one)(from + full * stride + j * SIZE(narrow), narrow);
        to->sum[j] += x;
        to->powers[0][j] += x;
        to->powers[1][j] += x * x;
        to->least[j] = x < to->least[j] ? x : to->least[j];
        to->most[j] = x > to->most[j] ? x : to->most[j];
    }
}

/* What is counted where not all values are finite, and the power of two of each lane. */
struct NAME(counts) {
    double n[LANES], nan[LANES], posinf[LANES], neginf[LANES];
    int64_t first_nan[LANES], first_inf[LANES]; /* rows, or -1 */
    int32_t power[LANES];
};

/* Count what is not finite, and take the extremes of what is. */
INLINE void NAME(count)(PANEL, struct NAME(panel) *to, struct NAME(counts) *counts)
{
    for (int j = 0; j < LANES; j++) {
        to->least[j] = INFINITE;
        to->most[j] = -INFINITE;
        to->zeros[j] = 0;
        counts->n[j] = counts->nan[j] = counts->posinf[j] = counts->neginf[j] = 0;
        counts->first_nan[j] = counts->first_inf[j] = -1;
        counts->power[j] = 0;
    }
    for (ptrdiff_t r = 0; r <= full; r++)
        for (int j = 0; j < (r < full ? LANES : rest); j++) {
            double x = NAME(load_one)(from + r * stride + j * SIZE(narrow), narrow);
            if (NAME(finite)(x)) {
                counts->n[j] += 1;
                to->zeros[j] += x == 0 ? 1 : 0;
                to->least[j] = x < to->least[j] ? x : to->least[j];
                to->most[j] = x > to->most[j] ? x : to->most[j];
            } else if (x != x) {
                counts->nan[j] += 1;
                counts->first_nan[j] = counts->first_nan[j] < 0 ? r : counts->first_nan[j];
            } else {
                *(x > 0 ? &counts->posinf[j] : &counts->neginf[j]) += 1;
                counts->first_inf[j] = counts->first_inf[j] < 0 ? r : counts->first_inf[j];
            }
        }
}

/* Return the power of two by which values of up to `largest` are scaled down: that of frexp, or 0. */
INLINE int32_t NAME(power_of)(double largest)
{
    if (!(largest > LARGE || (largest < SMALL && largest > 0)))
        return 0;
    int32_t more = 0;
    if (largest < 0x1p-1000) { /* perhaps subnormal */
        largest *= 0x1p+100;
        more = -100;
    }
    uint64_t bits;
    memcpy(&bits, &largest, sizeof bits);
    return (int32_t)(bits >> 52 & 2047) - 1022 + more;
}

/* Return 2 to the power of `power`, from -1074 to 1023. */
INLINE double NAME(two_to)(int32_t power)
{
    uint64_t bits = power < -1022 ? UINT64_C(1) << (power + 1074) : (uint64_t)(power + 1023) << 52;
    double found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

/* Return `value` over 2 to the power of `power`, rounded once: on the way up nothing is lost. */
INLINE double NAME(scaled)(double value, int32_t power)
{
    if (power >= 0)
        return value * NAME(two_to)(-power);
    return -power > 1000 ? value * NAME(two_to)(1000) * NAME(two_to)(-power - 1000) : value * NAME(two_to)(-power);
}

/* Take what deviations are taken from, and the unit that takes them apart, in each lane: see plain._middle and
 * plain._measured. The extremes are on the scale of the sums. */
INLINE void NAME(center)(const struct moments *task, const double *n, const double *least, const double *most,
                         struct NAME(panel) *to)
{
    const int narrow = task->dtype != F64 && task->dtype != I64 && task->dtype != U64;
    const vl exponent = INT64_C(0x7ff0000000000000) - (vl){0};
    const vl up = (INT64_C(14) << 52 | INT64_C(1) << 51) - (vl){0}; /* from 2**(e - 1) to 1.5 * 2**(e + 13) */
    for (int j = 0; j < LANES; j += PER) {
        vd count, sum, low, high;
        memcpy(&count, n + j, sizeof count);
        memcpy(&sum, to->sum + j, sizeof sum);
        memcpy(&low, least + j, sizeof low);
        memcpy(&high, most + j, sizeof high);
        vd middle = sum / NAME(max)(count, NAME(all)(1)), wide = middle * 0x1.00000008p+29;
        if (narrow)
            middle = wide - (wide - middle);
        if (task->about_zero)
            middle = NAME(all)(0);
        vd largest = NAME(max)(high - middle, middle - low);
        vl there = (largest > 0) & (largest < INFINITE) & (task->about_zero ? 0 : -1);
        vl unit = ((vl)largest & exponent & there) + (up & there);
        memcpy(to->middle + j, &middle, sizeof middle);
        memcpy(to->unit + j, &unit, sizeof unit);
    }
    for (int j = 0; j < LANES; j++)
        to->lower[j] = 0;
}

/* Write the values to `x`, rows of 64 lanes, scaled by the powers; 1 to `kept` where they are finite, else 0 to both. */
INLINE void NAME(clean)(PANEL, const int32_t *power, double *x, double *kept)
{
    for (ptrdiff_t r = 0; r < full + (rest > 0); r++)
        for (int j = 0; j < LANES; j++) {
            double value = 0;
            int there = r < full || j < rest;
            if (there)
                value = NAME(load_one)(from + r * stride + j * SIZE(narrow), narrow);
            there = there && NAME(finite)(value);
            x[r * LANES + j] = there ? NAME(scaled)(value, power[j]) : 0;
            kept[r * LANES + j] = there ? 1 : 0;
        }
}

/* Take the sums of four powers of the deviations of what is kept. */
INLINE void NAME(pass_kept)(const double *x, const double *kept, ptrdiff_t rows, struct NAME(panel) *to)
{
    for (int p = 0; p < 4; p++)
        for (int j = 0; j < LANES; j++)
            to->powers[p][j] = to->lower[j] = 0;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int j = 0; j < LANES; j++) {
            double d = (x[r * LANES + j] - to->middle[j]) * kept[r * LANES + j];
            double square = d * d, upper = (d + to->unit[j]) - to->unit[j];
            to->powers[0][j] += upper;
            to->lower[j] += d - upper;
            to->powers[1][j] += square;
            to->powers[2][j] += square * d;
            to->powers[3][j] += square * square;
        }
}

/* Return the first row of lane `j` that holds `value`, or -1. */
INLINE int64_t NAME(find_row)(PANEL, int j, double value)
{
    for (ptrdiff_t r = 0; r < full + (j < rest); r++)
        if (NAME(load_one)(from + r * stride + j * SIZE(narrow), narrow) == value)
            return r;
    return -1;
}

/* Return the rank of the first element that holds `value`, the rows one after the other; or -1. */
INLINE int64_t NAME(find)(PANEL, double value)
{
    for (ptrdiff_t r = 0; r <= full; r++) {
        int count = r < full ? LANES : rest, any = 0;
        const char *at = from + r * stride;
        for (int j = 0; j < count; j++)
            any |= NAME(load_one)(at + j * SIZE(narrow), narrow) == value;
        for (int j = 0; any && j < count; j++)
            if (NAME(load_one)(at + j * SIZE(narrow), narrow) == value)
                return r * LANES + j;
    }
    return -1;
}

/* Finish `sets` sets, the first of which is set `i`; their sums are in the first lanes. */
INLINE void NAME(finish)(const struct moments *task, ptrdiff_t i, int sets, const double *n, struct NAME(panel) *found)
{
    const size_t size = (size_t)sets * sizeof(double);
    double lo[LANES], m2[LANES];
    for (int j = 0; j < sets; j++) {
        double count = n[j] > 1 ? n[j] : 1;
        lo[j] = (found->powers[0][j] + found->lower[j]) / count;
        m2[j] = found->powers[1][j] - n[j] * (lo[j] * lo[j]);
        m2[j] = m2[j] > 0 ? m2[j] : 0;
    }
    memcpy(task->n + i, n, size);
    memcpy(task->hi + i, found->middle, size);
    memcpy(task->lo + i, lo, size);
    memcpy(task->m2 + i, m2, size);
    memcpy(task->square + i, found->powers[1], size);
    if (task->cube)
        memcpy(task->cube + i, found->powers[2], size);
    if (task->fourth)
        memcpy(task->fourth + i, found->powers[3], size);
    if (task->total)
        memcpy(task->total + i, found->sum, size);
    if (task->l1)
        memcpy(task->l1 + i, found->l1, size);
    if (task->zeros)
        memcpy(task->zeros + i, found->zeros, size);
    if (task->dtype != I64 && task->dtype != U64) {
        for (int j = 0; j < sets; j++) {
            found->least[j] += 0.0;
            found->most[j] += 0.0;
        }
        memcpy((double *)task->least + i, found->least, size);
        memcpy((double *)task->most + i, found->most, size);
    }
}

/* Measure a panel that is not ordinary: with NaN, infinities, or values that must be scaled. */
static void NAME(measure_odd)(const struct moments *task, PANEL, ptrdiff_t i, int sets, struct NAME(panel) *found)
{
    struct NAME(counts) counts;
    double *x = task->scratch, *kept = task->scratch + 256 * LANES;
    ptrdiff_t rows = full + (rest > 0);
    int lanes = sets ? sets : LANES, f64 = task->dtype == F64;
    NAME(count)(from, stride, full, rest, narrow, found, &counts);
    if (!sets) { /* one set: all lanes together */
        double least = INFINITE, most = -INFINITE;
        for (int j = 0; j < LANES; j++) {
            least = found->least[j] < least ? found->least[j] : least;
            most = found->most[j] > most ? found->most[j] : most;
        }
        for (int j = 0; j < LANES; j++) {
            found->least[j] = least;
            found->most[j] = most;
        }
    }
    for (int j = 0; f64 && j < lanes; j++) {
        double low = found->least[j], high = found->most[j];
        double largest = -low > high ? -low : high; /* -INFINITE where nothing is finite */
        counts.power[j] = NAME(power_of)(largest);
    }
    for (int j = 0; j < (sets ? sets : 1); j++) {
        if (task->argmin)
            task->argmin[i + j] = sets ? NAME(find_row)(from, stride, full, rest, narrow, j, found->least[j])
                                       : NAME(find)(from, stride, full, rest, narrow, found->least[j]);
        if (task->argmax)
            task->argmax[i + j] = sets ? NAME(find_row)(from, stride, full, rest, narrow, j, found->most[j])
                                       : NAME(find)(from, stride, full, rest, narrow, found->most[j]);
    }
    NAME(clean)(from, stride, full, rest, narrow, counts.power, x, kept);
    for (int j = 0; j < LANES; j++)
        found->sum[j] = found->l1[j] = 0;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int j = 0; j < LANES; j++) {
            double value = x[r * LANES + j];
            found->sum[j] += value;
            found->l1[j] += value < 0 ? -value : value;
        }
    if (!sets) {
        NAME(halves)(found->sum);
        NAME(halves)(found->l1);
        NAME(halves)(found->zeros);
        NAME(halves)(counts.n);
        NAME(halves)(counts.nan);
        NAME(halves)(counts.posinf);
        NAME(halves)(counts.neginf);
    }
    double least[LANES], most[LANES];
    for (int j = 0; j < LANES; j++) {
        if (!sets) {
            counts.n[j] = counts.n[0];
            found->sum[j] = found->sum[0];
        }
        least[j] = NAME(scaled)(found->least[j], counts.power[j]);
        most[j] = NAME(scaled)(found->most[j], counts.power[j]);
    }
    NAME(center)(task, counts.n, least, most, found);
    NAME(pass_kept)(x, kept, rows, found);
    if (!sets)
        NAME(halves)(found->lower);
    for (int p = 0; !sets && p < 4; p++)
        NAME(halves)(found->powers[p]);
    *task->odd = 1;
    NAME(finish)(task, i, sets ? sets : 1, counts.n, found);
    for (int j = 0; j < (sets ? sets : 1); j++) {
        task->nan[i + j] = counts.nan[j];
        task->posinf[i + j] = counts.posinf[j];
        task->neginf[i + j] = counts.neginf[j];
        if (f64)
            task->power[i + j] = counts.power[j];
        if (counts.n[j] == 0) {
            if (task->argmin)
                task->argmin[i + j] = -1;
            if (task->argmax)
                task->argmax[i + j] = -1;
        }
        int64_t nan = counts.first_nan[j], inf = counts.first_inf[j];
        if (!sets) { /* the first row that has one, and there the first lane */
            nan = inf = -1;
            for (int k = 0; k < LANES; k++) {
                int64_t a = counts.first_nan[k] * LANES + k, b = counts.first_inf[k] * LANES + k;
                nan = counts.first_nan[k] >= 0 && (nan < 0 || a < nan) ? a : nan;
                inf = counts.first_inf[k] >= 0 && (inf < 0 || b < inf) ? b : inf;
            }
        }
        if (task->first_nan)
            task->first_nan[i + j] = nan;
        if (task->first_inf)
            task->first_inf[i + j] = inf;
    }
}

/* Measure a panel: `sets` sets, one in each lane, or with 0 one set in all lanes. The first of them is set `i`. */
INLINE void NAME(measure_panel)(const struct moments *task, PANEL, ptrdiff_t i, int sets)
{
    struct NAME(panel) found;
    int lanes = sets ? sets : LANES, odd = 0, f64 = task->dtype == F64;
    if (task->about_zero)
        NAME(pass_about_zero)(from, stride, full, rest, narrow, &found);
    else
        NAME(pass_sums)(from, stride, full, rest, narrow, &found);
    if (!sets) {
        NAME(halves)(found.sum);
        for (int half = LANES / 2; half; half /= 2)
            for (int j = 0; j < half; j++) {
                found.least[j] = found.least[j + half] < found.least[j] ? found.least[j + half] : found.least[j];
                found.most[j] = found.most[j + half] > found.most[j] ? found.most[j + half] : found.most[j];
            }
        lanes = 1;
    }
    for (int j = 0; j < lanes; j++) {
        double low = found.least[j], high = found.most[j], largest = -low > high ? -low : high;
        odd |= !NAME(finite)(found.sum[j]);
        odd |= f64 && (largest > LARGE || (largest < SMALL && largest > 0));
    }
    if (odd) {
        NAME(measure_odd)(task, from, stride, full, rest, narrow, i, sets, &found);
        return;
    }
    double n[LANES];
    for (int j = 0; j < LANES; j++) {
        n[j] = sets ? (double)full : (double)(full * LANES + rest);
        if (!sets) {
            found.sum[j] = found.sum[0];
            found.least[j] = found.least[0];
            found.most[j] = found.most[0];
        }
    }
    NAME(center)(task, n, found.least, found.most, &found);
    if (task->cube || task->fourth)
        NAME(pass_powers)(from, stride, full, rest, narrow, 4, &found);
    else if (!task->about_zero)
        NAME(pass_powers)(from, stride, full, rest, narrow, 2, &found);
    if (task->l1 || task->zeros)
        NAME(pass_sizes)(from, stride, full, rest, narrow, &found);
    if (!sets) {
        for (int p = 0; p < (task->cube || task->fourth ? 4 : 2); p++)
            NAME(halves)(found.powers[p]);
        NAME(halves)(found.lower);
        if (task->l1 || task->zeros) {
            NAME(halves)(found.l1);
            NAME(halves)(found.zeros);
        }
    }
    NAME(finish)(task, i, lanes, n, &found);
    if (!(task->argmin || task->argmax || task->first_nan || task->first_inf))
        return;
    for (int j = 0; j < lanes; j++) {
        if (task->argmin)
            task->argmin[i + j] = sets ? NAME(find_row)(from, stride, full, rest, narrow, j, found.least[j])
                                       : NAME(find)(from, stride, full, rest, narrow, found.least[j]);
        if (task->argmax)
            task->argmax[i + j] = sets ? NAME(find_row)(from, stride, full, rest, narrow, j, found.most[j])
                                       : NAME(find)(from, stride, full, rest, narrow, found.most[j]);
        if (task->first_nan)
            task->first_nan[i + j] = -1;
        if (task->first_inf)
            task->first_inf[i + j] = -1;
    }
}

static void NAME(measure_floats)(const struct moments *task, const char *from, ptrdiff_t stride, ptrdiff_t full, int rest,
                                 ptrdiff_t i, int sets)
{
    NAME(measure_panel)(task, from, stride, full, rest, 1, i, sets);
}

static void NAME(measure_doubles)(const struct moments *task, const char *from, ptrdiff_t stride, ptrdiff_t full, int rest,
                                  ptrdiff_t i, int sets)
{
    NAME(measure_panel)(task, from, stride, full, rest, 0, i, sets);
}

/* Return the float whose half precision bits these are. */
INLINE float NAME(from_half)(uint16_t half)
{
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float found;
    if (bits >= (uint32_t)0x7c00 << 13)
        bits |= UINT32_C(0x7f800000);
    else {
        memcpy(&found, &bits, sizeof found);
        found *= 0x1p+112f;
        memcpy(&bits, &found, sizeof found);
    }
    bits |= sign;
    memcpy(&found, &bits, sizeof found);
    return found;
}

INLINE uint16_t NAME(swap16)(uint16_t x)
{
    return (uint16_t)(x << 8 | x >> 8);
}

INLINE uint32_t NAME(swap32)(uint32_t x)
{
    return __builtin_bswap32(x);
}

INLINE uint64_t NAME(swap64)(uint64_t x)
{
    return __builtin_bswap64(x);
}

#define WIDEN(type, raw, swap)                             \
    for (ptrdiff_t i = 0; i < count; i++) {                \
        raw bits;                                          \
        type value;                                        \
        memcpy(&bits, from + i * (ptrdiff_t)sizeof bits, sizeof bits); \
        bits = swapped ? swap(bits) : bits;                \
        memcpy(&value, &bits, sizeof value);               \
        to[i] = (double)value;                             \
    }                                                      \
    break

/* Widen `count` elements that lie one after the other. */
INLINE void NAME(widen_run)(const char *from, ptrdiff_t count, int64_t dtype, int swapped, double *to)
{
    switch (dtype) {
    case BOOL:
    case U8:
        for (ptrdiff_t i = 0; i < count; i++)
            to[i] = (double)(uint8_t)from[i];
        break;
    case I8:
        for (ptrdiff_t i = 0; i < count; i++)
            to[i] = (double)(int8_t)from[i];
        break;
    case I16:
        WIDEN(int16_t, uint16_t, NAME(swap16));
    case U16:
        WIDEN(uint16_t, uint16_t, NAME(swap16));
    case I32:
        WIDEN(int32_t, uint32_t, NAME(swap32));
    case U32:
        WIDEN(uint32_t, uint32_t, NAME(swap32));
    case I64:
        WIDEN(int64_t, uint64_t, NAME(swap64));
    case U64:
        WIDEN(uint64_t, uint64_t, NAME(swap64));
    case F16:
        for (ptrdiff_t i = 0; i < count; i++) {
            uint16_t bits;
            memcpy(&bits, from + 2 * i, sizeof bits);
            to[i] = (double)NAME(from_half)(swapped ? NAME(swap16)(bits) : bits);
        }
        break;
    case F32:
        WIDEN(float, uint32_t, NAME(swap32));
    default:
        WIDEN(double, uint64_t, NAME(swap64));
    }
}

static void NAME(widen)(const char *from, ptrdiff_t count, int64_t dtype, int64_t swapped, double *to)
{
    if (swapped)
        NAME(widen_run)(from, count, dtype, 1, to);
    else
        NAME(widen_run)(from, count, dtype, 0, to);
}

INLINE uint64_t NAME(load64)(const char *from, int64_t swapped)
{
    uint64_t bits;
    memcpy(&bits, from, sizeof bits);
    return swapped ? NAME(swap64)(bits) : bits;
}

/* Widen a panel of 64-bit integers: what each is above the least of its set. Its extremes are written to the task. */
static void NAME(widen_shifted)(const struct moments *task, const char *from, ptrdiff_t stride, ptrdiff_t step,
                                ptrdiff_t full, int rest, ptrdiff_t i, int sets)
{
    uint64_t flip = task->dtype == I64 ? UINT64_C(1) << 63 : 0; /* makes the order that of unsigned integers */
    uint64_t least[LANES], most[LANES];
    for (int j = 0; j < LANES; j++) {
        least[j] = UINT64_MAX;
        most[j] = 0;
    }
    for (int again = 0; again < 2; again++) {
        for (ptrdiff_t r = 0; r <= full; r++)
            for (int j = 0; j < (r < full ? sets ? sets : LANES : rest); j++) {
                int of = sets ? j : 0;
                uint64_t x = NAME(load64)(from + r * stride + j * step, task->swapped) ^ flip;
                if (again)
                    task->scratch[r * LANES + j] = (double)(x - least[of]);
                least[of] = x < least[of] ? x : least[of];
                most[of] = x > most[of] ? x : most[of];
            }
    }
    for (int j = 0; j < (sets ? sets : 1); j++) {
        ((uint64_t *)task->least)[i + j] = least[j] ^ flip;
        ((uint64_t *)task->most)[i + j] = most[j] ^ flip;
    }
}

/* Measure a block of a row: one set. */
static void NAME(measure_row)(const struct moments *task, const char *from, ptrdiff_t i)
{
    ptrdiff_t full = task->rows / LANES, size = LANES * (ptrdiff_t)sizeof(double);
    int rest = (int)(task->rows % LANES);
    const char *scratch = (const char *)task->scratch;
    if (task->by) {
        NAME(widen)(task->by + i * task->by_stride, task->rows, task->by_dtype, 0, task->scratch);
        for (ptrdiff_t k = 0; k < task->rows; k++) {
            double value; /* which may lie anywhere */
            memcpy(&value, from + k * (ptrdiff_t)sizeof value, sizeof value);
            task->scratch[k] *= value;
        }
        NAME(measure_doubles)(task, scratch, size, full, rest, i, 0);
    } else if (task->dtype == F32 && !task->swapped)
        NAME(measure_floats)(task, from, size / 2, full, rest, i, 0);
    else if (task->dtype == F64 && !task->swapped)
        NAME(measure_doubles)(task, from, size, full, rest, i, 0);
    else {
        if (task->dtype == I64 || task->dtype == U64)
            NAME(widen_shifted)(task, from, size, (ptrdiff_t)sizeof(double), full, rest, i, 0);
        else
            NAME(widen)(from, task->rows, task->dtype, task->swapped, task->scratch);
        NAME(measure_doubles)(task, scratch, size, full, rest, i, 0);
    }
}

/* Widen up to 64 sets, which lie `step` bytes apart, into rows of 64 lanes. */
static void NAME(widen_columns)(const char *from, ptrdiff_t stride, ptrdiff_t step, ptrdiff_t itemsize, ptrdiff_t rows,
                                int sets, int64_t dtype, int64_t swapped, double *to)
{
    int side = step == itemsize;
    for (ptrdiff_t r = 0; side && r < rows; r++)
        NAME(widen)(from + r * stride, sets, dtype, swapped, to + r * LANES);
    if (!side) { /* short rows are turned into columns */
        double wide[LANES * LANES];
        int runs = step == rows * itemsize ? 1 : sets; /* rows that lie one after the other are one run */
        for (int j = 0; j < runs; j++)
            NAME(widen)(from + j * step, sets / runs * rows, dtype, swapped, wide + j * rows);
        for (ptrdiff_t r = 0; r < rows; r++)
            for (int j = 0; j < sets; j++)
                to[r * LANES + j] = wide[j * rows + r];
    }
}

/* Write zeros to the lanes that hold no set. */
INLINE void NAME(fill_up)(double *to, ptrdiff_t rows, int sets)
{
    for (ptrdiff_t r = 0; sets < LANES && r < rows; r++)
        for (int j = sets; j < LANES; j++)
            to[r * LANES + j] = 0;
}

/* Measure up to 64 sets, which lie `step` bytes apart, one in each lane. */
static void NAME(measure_columns)(const struct moments *task, const char *from, ptrdiff_t stride, ptrdiff_t step,
                                  ptrdiff_t itemsize, ptrdiff_t i, int sets)
{
    ptrdiff_t rows = task->rows, size = LANES * (ptrdiff_t)sizeof(double);
    const char *scratch = (const char *)task->scratch;
    int direct = step == itemsize && sets == LANES && !task->swapped;
    if (task->dtype == F32 && direct)
        NAME(measure_floats)(task, from, stride, rows, 0, i, sets);
    else if (task->dtype == F64 && direct)
        NAME(measure_doubles)(task, from, stride, rows, 0, i, sets);
    else {
        if (task->dtype == I64 || task->dtype == U64)
            NAME(widen_shifted)(task, from, stride, step, rows, 0, i, sets);
        else
            NAME(widen_columns)(from, stride, step, itemsize, rows, sets, task->dtype, task->swapped, task->scratch);
        NAME(fill_up)(task->scratch, rows, sets);
        NAME(measure_doubles)(task, scratch, size, rows, 0, i, sets);
    }
}

EXPORT void NAME(moments)(const struct moments *task);

void NAME(moments)(const struct moments *task)
{
    static const ptrdiff_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    ptrdiff_t itemsize = sizes[task->dtype], columns = task->columns;
    if (!columns && task->rows >= LANES)
        for (ptrdiff_t a = 0; a < task->sets; a++)
            NAME(measure_row)(task, task->values + a * task->set_stride, a);
    else if (!columns)
        for (ptrdiff_t a = 0; a < task->sets; a += LANES) {
            int sets = task->sets - a < LANES ? (int)(task->sets - a) : LANES;
            NAME(measure_columns)(task, task->values + a * task->set_stride, itemsize, task->set_stride, itemsize, a, sets);
        }
    else
        for (ptrdiff_t a = 0; a < task->sets; a++)
            for (ptrdiff_t q = 0; q < columns; q += LANES) {
                int sets = columns - q < LANES ? (int)(columns - q) : LANES;
                const char *from = task->values + a * task->set_stride + q * itemsize;
                NAME(measure_columns)(task, from, task->row_stride, itemsize, itemsize, a * columns + q, sets);
            }
}

/* Moments of some sets, field by field. */
typedef double NAME(few)[FIELDS][LANES];

/* Write the unions of `count` sets of `x` and `y` to `z`: see plain.united and plain.united_bounds. */
INLINE void NAME(unite)(NAME(few) x, NAME(few) y, ptrdiff_t count, const int bounded, NAME(few) z)
{
    for (ptrdiff_t j = 0; j < count; j++) {
        double n = x[N][j] + y[N][j], share = y[N][j] / (n > 1 ? n : 1), weight = x[N][j] * share;
        double apart = y[HI][j] - x[HI][j], delta = apart + (y[LO][j] - x[LO][j]), lo = x[LO][j] + delta * share;
        double m2 = x[M2][j] + y[M2][j], far = __builtin_fabs(delta);
        z[N][j] = n;
        z[HI][j] = x[N][j] > 0 ? x[HI][j] : y[HI][j];
        z[LO][j] = x[N][j] > 0 ? lo : y[LO][j];
        z[M2][j] = m2 + delta * delta * weight;
        z[LEAST][j] = y[LEAST][j] < x[LEAST][j] ? y[LEAST][j] : x[LEAST][j];
        z[MOST][j] = y[MOST][j] > x[MOST][j] ? y[MOST][j] : x[MOST][j];
        if (bounded) {
            double r = 3 * U * (__builtin_fabs(apart) + __builtin_fabs(x[LO][j]) + __builtin_fabs(y[LO][j]) + far);
            double error = x[OF_MEAN][j] + y[OF_MEAN][j] + r, drift = U * (2 * far * share + __builtin_fabs(lo));
            double mean = (1 - share) * x[OF_MEAN][j] + share * (y[OF_MEAN][j] + r) + drift;
            double square = x[OF_M2][j] + y[OF_M2][j] + 2 * U * (m2 + far * far * weight);
            z[OF_MEAN][j] = mean * UP;
            z[OF_M2][j] = (square + weight * ((2 * far + error) * error + 4 * U * far * far)) * UP;
        }
    }
}

EXPORT void NAME(pool)(const struct sets *from, const struct sets *to, ptrdiff_t num, ptrdiff_t count, ptrdiff_t width);

/* Write the unions of `num` runs of `count` rows, at least 2, of `width` sets to `to`; it has room for half of them. They
 * may be united in place, since what is written lies before all that is still to be read. */
void NAME(pool)(const struct sets *from, const struct sets *to, ptrdiff_t num, ptrdiff_t count, ptrdiff_t width)
{
    const int bounded = from->field[OF_M2] != NULL, fields = bounded ? FIELDS : OF_MEAN;
    NAME(few) x, y, z;
    for (; count > 1; from = to, count -= count / 2) { /* runs of an even number of rows are one */
        const ptrdiff_t runs = count % 2 ? num : 1, rows = num * count / runs, size = rows / 2 * width;
        for (ptrdiff_t run = 0; run < runs; run++) {
            const ptrdiff_t in = run * rows * width, out = run * (rows - rows / 2) * width;
            for (ptrdiff_t at = 0, n; at < size; at += n) {
                const ptrdiff_t first = in + 2 * at - at % width, left = width > 1 ? width - at % width : size - at;
                n = left < LANES ? left : LANES;
                for (int f = 0; f < fields; f++) {
                    const double *field = from->field[f] + first;
                    for (ptrdiff_t j = 0; width > 1 && j < n; j++) {
                        x[f][j] = field[j];
                        y[f][j] = field[j + width];
                    }
                    for (ptrdiff_t j = 0; width == 1 && j < n; j++) {
                        x[f][j] = field[2 * j];
                        y[f][j] = field[2 * j + 1];
                    }
                }
                if (bounded)
                    NAME(unite)(x, y, n, 1, z);
                else
                    NAME(unite)(x, y, n, 0, z);
                for (int f = 0; f < fields; f++)
                    memcpy(to->field[f] + out + at, z[f], (size_t)n * sizeof(double));
            }
            for (int f = 0; rows % 2 && f < fields; f++) /* one row is left over */
                memcpy(to->field[f] + out + size, from->field[f] + in + (rows - 1) * width, (size_t)width * sizeof(double));
        }
    }
}

/* Bound the errors of some blocks; of all, `added` is one number (`step` 0) or there is one for each (`step` 1). */
INLINE void NAME(bound_blocks)(const double *restrict n, const double *restrict lo, const double *restrict m2,
                               const double *restrict lost, const double *restrict added, const int step, double part,
                               ptrdiff_t size, double *restrict of_mean, double *restrict of_m2)
{
    for (ptrdiff_t i = 0; i < size; i++) {
        double count = n[i] > 1 ? n[i] : 1, lower = __builtin_fabs(lo[i]), terms = added[i * step];
        double square = count * lower * lower, whole = m2[i] + square;
        double each = __builtin_sqrt(whole / count), most = part * __builtin_sqrt(whole);
        double mean = U * each + 3 * U * lower + terms * U * (most < each ? most : each);
        double error = (terms + 3) * U * whole + 4 * U * square;
        if (lost) {
            mean += lost[i];
            error += lost[i] * (2 * __builtin_sqrt(count * whole) + count * lost[i]);
        }
        of_mean[i] = mean * UP;
        of_m2[i] = (error + count * (2 * lower + mean) * mean) * UP;
    }
}

EXPORT void NAME(bounds)(const double *n, const double *lo, const double *m2, const double *lost, const double *added,
                         ptrdiff_t step, double part, ptrdiff_t size, double *of_mean, double *of_m2);

/* Write the bounds of the errors of `size` blocks: plain.bounds. */
void NAME(bounds)(const double *n, const double *lo, const double *m2, const double *lost, const double *added,
                  ptrdiff_t step, double part, ptrdiff_t size, double *of_mean, double *of_m2)
{
    if (step || lost)
        NAME(bound_blocks)(n, lo, m2, lost, added, step != 0, part, size, of_mean, of_m2);
    else
        NAME(bound_blocks)(n, lo, m2, NULL, added, 0, part, size, of_mean, of_m2);
}

EXPORT void NAME(ratios)(const double *expected, const double *shift, const double *mean, const double *var,
                         const double *summed, const double *s, ptrdiff_t step, ptrdiff_t size, double u, double *found);

/* Write the largest errors of `size` cells as fractions of what is allowed: plain.ratios. */
void NAME(ratios)(const double *expected, const double *shift, const double *mean, const double *var,
                  const double *summed, const double *s, ptrdiff_t step, ptrdiff_t size, double u, double *found)
{
    vd worst[2] = {NAME(all)(0), NAME(all)(0)};
    vl unknown[2] = {{0}, {0}};
    for (ptrdiff_t at = 0; at < size; at += LANES) {
        double part[2][LANES] = {{0}};
        const int n = size - at < LANES ? (int)(size - at) : LANES;
        for (int j = 0; j < n; j++) {
            double v = expected[at + j], root = __builtin_sqrt(v), far = __builtin_fabs(shift[at + j]), reach = root + far;
            double least = s[step ? at + j : 0], lost = summed[at + j];
            double rounded = 2 * u * (v + far * root) + 2 * least * root + least * least + u * far * (u * far);
            part[0][j] = __builtin_fabs(mean[at + j] - shift[at + j]) / (16 * (u * reach + least) + lost * reach);
            part[1][j] = __builtin_fabs(var[at + j] - v) / (16 * rounded + 2 * lost * v);
        }
        for (int k = 0; k < 2; k++)
            for (int j = 0; j < LANES; j += PER) {
                vd error;
                memcpy(&error, part[k] + j, sizeof error);
                worst[k] = NAME(max)(error, worst[k]);
                unknown[k] |= error != error;
            }
    }
    for (int k = 0; k < 2; k++) {
        found[k] = 0;
        for (int j = 0; j < PER; j++) {
            found[k] = worst[k][j] > found[k] ? worst[k][j] : found[k];
            found[k] = unknown[k][j] ? __builtin_nan("") : found[k];
        }
    }
}

/* --- exact sums ---------------------------------------------------------------------------------------------------- */

/* Sums of the digits of `sets` rows of float32: plain.digits. An integer n below 2**51 is made of its double by adding
 * 1.5 * 2**52, whose bits are then those of this constant, plus n; so the bits are summed, and the constant taken away. */
EXPORT void NAME(digits)(const char *values, ptrdiff_t sets, ptrdiff_t rows, ptrdiff_t stride, int64_t *out);
EXPORT void NAME(column_digits)(const char *values, ptrdiff_t num, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t top,
                                int64_t *out, uint8_t *late);

INLINE uint64_t NAME(bits_of)(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

INLINE double NAME(digit_scale)(ptrdiff_t top)
{
    uint64_t bits = (uint64_t)(1023 + 48 - top) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* Add the digits of a float32 to the five sums, the j-th of each; what is not 0 is `late`. */
INLINE void NAME(add_digits)(const char *at, double scale, uint64_t (*sums)[LANES], uint64_t *late, int j)
{
    const double shift = 0x1.8p52;
    float narrow;
    memcpy(&narrow, at, sizeof narrow);
    double x = (double)narrow * scale, above = x * 0x1p-24 + shift, high = above - shift;
    double low = x - high * 0x1p24, below = low + shift;
    late[j] |= NAME(bits_of)((below - shift) - low);
    sums[0][j] += NAME(bits_of)(above);
    sums[1][j] += NAME(bits_of)(below);
    sums[2][j] += NAME(bits_of)(high * high + shift);
    sums[3][j] += NAME(bits_of)(high * low + shift);
    sums[4][j] += NAME(bits_of)(low * low + shift);
}

void NAME(digits)(const char *values, ptrdiff_t sets, ptrdiff_t rows, ptrdiff_t stride, int64_t *out)
{
    const uint64_t constant = NAME(bits_of)(0x1.8p52) * (uint64_t)rows;
    for (ptrdiff_t set = 0; set < sets; set++) {
        const char *row = values + set * stride;
        uint32_t largest = 0;
        for (ptrdiff_t i = 0; i < rows; i++) {
            uint32_t bits;
            memcpy(&bits, row + 4 * i, sizeof bits);
            bits &= 0x7fffffff;
            largest = bits > largest ? bits : largest;
        }
        int64_t top = largest ? (int64_t)(largest >> 23) - 126 : 0;
        uint64_t sums[5][LANES] = {{0}}, late[LANES] = {0};
        late[0] = largest >= 0x7f800000 || (largest && largest < 0x00800000);
        if (!late[0]) {
            double scale = NAME(digit_scale)(top);
            ptrdiff_t i = 0;
            for (; i + LANES <= rows; i += LANES)
                for (int j = 0; j < LANES; j++)
                    NAME(add_digits)(row + 4 * (i + j), scale, sums, late, j);
            for (; i < rows; i++)
                NAME(add_digits)(row + 4 * i, scale, sums, late, 0);
        }
        for (int j = 1; j < LANES; j++) {
            late[0] |= late[j];
            for (int k = 0; k < 5; k++)
                sums[k][0] += sums[k][j];
        }
        for (int k = 0; k < 5; k++)
            out[k * sets + set] = late[0] ? 0 : (int64_t)(sums[k][0] - constant);
        out[5 * sets + set] = late[0] ? NO_DIGITS : top;
    }
}

/* The same of `num` blocks of rows, column by column, with one `top` for all: plain.column_digits. */
void NAME(column_digits)(const char *values, ptrdiff_t num, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t top, int64_t *out,
                         uint8_t *late)
{
    const uint64_t constant = NAME(bits_of)(0x1.8p52) * (uint64_t)rows;
    const double scale = NAME(digit_scale)(top);
    for (ptrdiff_t x = 0; x < num; x++)
        for (ptrdiff_t q = 0; q < columns; q += LANES) {
            const int n = columns - q < LANES ? (int)(columns - q) : LANES;
            const char *from = values + 4 * (x * rows * columns + q);
            uint64_t sums[5][LANES] = {{0}}, more[LANES] = {0};
            for (ptrdiff_t r = 0; r < rows; r++, from += 4 * columns)
                for (int j = 0; j < n; j++)
                    NAME(add_digits)(from + 4 * j, scale, sums, more, j);
            for (int j = 0; j < n; j++) {
                late[x * columns + q + j] = more[j] != 0;
                for (int k = 0; k < 5; k++)
                    out[(k * num + x) * columns + q + j] = more[j] ? 0 : (int64_t)(sums[k][j] - constant);
            }
        }
}

/* Exact sums of deviations from a center and of their products: plain.limbs. All sums are exact, so their order is free. */
#define TERMS 11
#define LIMB 0x1p-22

struct NAME(limbs) {
    double center[LANES], unit[LANES], sums[TERMS][LANES];
    int64_t late[LANES];
};

/* Add `full` rows of 64 lanes to the sums of each lane: up to 256 terms below 2**45 units, which a double holds. */
INLINE void NAME(pass_limbs)(const char *from, ptrdiff_t stride, ptrdiff_t full, int narrow, struct NAME(limbs) *to)
{
    for (int first = 0; first < LANES; first += PER) {
        const char *at = from + first * SIZE(narrow);
        vd center, unit, sums[TERMS];
        vl late;
        memcpy(&center, to->center + first, sizeof center);
        memcpy(&unit, to->unit + first, sizeof unit);
        memcpy(&late, to->late + first, sizeof late);
        for (int k = 0; k < TERMS; k++)
            memcpy(&sums[k], to->sums[k] + first, sizeof sums[k]);
        const vd one = unit * 0x1.8p52, two = one * LIMB, three = two * LIMB, four = three * LIMB;
        for (ptrdiff_t r = 0; r < full; r++, at += stride) {
            vd x = NAME(load)(at, narrow), a = ((x - center) + one) - one, left = x - (a + center);
            vd b = (left + two) - two, c, d;
            left -= b;
            c = (left + three) - three;
            left -= c;
            d = (left + four) - four;
            late |= d != left;
            sums[0] += a;
            sums[1] += b;
            sums[2] += c;
            sums[3] += d;
            sums[4] = NAME(exact_sum)(a, a, sums[4]);
            sums[5] = NAME(exact_sum)(a, b, sums[5]);
            sums[6] = NAME(exact_sum)(a + a, c, NAME(exact_sum)(b, b, sums[6]));
            sums[7] = NAME(exact_sum)(a, d, NAME(exact_sum)(b, c, sums[7]));
            sums[8] = NAME(exact_sum)(b + b, d, NAME(exact_sum)(c, c, sums[8]));
            sums[9] = NAME(exact_sum)(c, d, sums[9]);
            sums[10] = NAME(exact_sum)(d, d, sums[10]);
        }
        memcpy(to->late + first, &late, sizeof late);
        for (int k = 0; k < TERMS; k++)
            memcpy(to->sums[k] + first, &sums[k], sizeof sums[k]);
    }
}

/* Write the sums of `sets` sets, one in each lane, or with 0 of one set in all lanes; the first of them is set `i`. */
INLINE void NAME(write_limbs)(const struct limbs *task, const struct NAME(limbs) *found, ptrdiff_t i, int sets)
{
    const ptrdiff_t all = task->columns ? task->sets * task->columns : task->sets;
    for (int j = 0; j < (sets ? sets : 1); j++) {
        const int last = sets ? j + 1 : LANES;
        int64_t late = 0;
        for (int lane = j; lane < last; lane++)
            late |= found->late[lane];
        task->late[i + j] = late != 0;
        double scale = 1 / found->unit[j], square = scale * scale;
        for (int k = 0; k < TERMS; k++) {
            double by = k < 4 ? scale : square;
            int64_t sum = 0;
            for (int lane = j; !late && lane < last; lane++)
                sum += (int64_t)(found->sums[k][lane] * by);
            task->sums[k * all + i + j] = sum;
            if (k < 3)
                scale *= 0x1p+22;
            if (k > 3)
                square *= 0x1p+22;
        }
    }
}

/* Set up the lanes for sets from set `i` on; a lane without a set has zeros. */
INLINE void NAME(begin_limbs)(const struct limbs *task, ptrdiff_t i, int sets, struct NAME(limbs) *to)
{
    for (int j = 0; j < LANES; j++) {
        for (int k = 0; k < TERMS; k++)
            to->sums[k][j] = 0;
        to->late[j] = 0;
        to->center[j] = sets && j >= sets ? 0 : task->center[sets ? i + j : i];
        to->unit[j] = sets && j >= sets ? 1 : task->unit[sets ? i + j : i];
    }
}

static void NAME(limbs_of_panel)(const char *from, ptrdiff_t stride, ptrdiff_t full, int narrow, struct NAME(limbs) *to)
{
    if (narrow)
        NAME(pass_limbs)(from, stride, full, 1, to);
    else
        NAME(pass_limbs)(from, stride, full, 0, to);
}

/* Take the limbs of a block of a row: one set. */
static void NAME(limbs_of_row)(const struct limbs *task, const char *from, ptrdiff_t i)
{
    const ptrdiff_t full = task->rows / LANES, rest = task->rows % LANES;
    struct NAME(limbs) found;
    double last[LANES];
    int direct = !task->swapped && (task->dtype == F32 || task->dtype == F64), narrow = direct && task->dtype == F32;
    if (!direct) {
        NAME(widen)(from, task->rows, task->dtype, task->swapped, task->scratch);
        from = (const char *)task->scratch;
    }
    NAME(begin_limbs)(task, i, 0, &found);
    NAME(limbs_of_panel)(from, LANES * SIZE(narrow), full, narrow, &found);
    for (int j = 0; j < LANES; j++) /* the row is filled up with what has no deviation */
        last[j] = j < rest ? NAME(load_one)(from + (full * LANES + j) * SIZE(narrow), narrow) : found.center[j];
    NAME(limbs_of_panel)((const char *)last, 0, 1, 0, &found);
    NAME(write_limbs)(task, &found, i, 0);
}

/* Take the limbs of up to 64 sets, which lie `step` bytes apart, one in each lane. */
static void NAME(limbs_of_columns)(const struct limbs *task, const char *from, ptrdiff_t stride, ptrdiff_t step,
                                   ptrdiff_t itemsize, ptrdiff_t i, int sets)
{
    struct NAME(limbs) found;
    int direct = step == itemsize && sets == LANES && !task->swapped, narrow = direct && task->dtype == F32;
    NAME(begin_limbs)(task, i, sets, &found);
    if (!direct || (task->dtype != F32 && task->dtype != F64)) {
        NAME(widen_columns)(from, stride, step, itemsize, task->rows, sets, task->dtype, task->swapped, task->scratch);
        NAME(fill_up)(task->scratch, task->rows, sets);
        from = (const char *)task->scratch;
        stride = LANES * (ptrdiff_t)sizeof(double);
    }
    NAME(limbs_of_panel)(from, stride, task->rows, narrow, &found);
    NAME(write_limbs)(task, &found, i, sets);
}

EXPORT void NAME(limbs)(const struct limbs *task);

void NAME(limbs)(const struct limbs *task)
{
    static const ptrdiff_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    ptrdiff_t itemsize = sizes[task->dtype], columns = task->columns;
    int row = !columns && task->rows >= LANES;
    for (ptrdiff_t a = 0; a < task->sets; a += row || columns ? 1 : LANES) {
        const char *from = task->values + a * task->set_stride;
        ptrdiff_t left = columns ? columns : task->sets - a;
        if (row)
            NAME(limbs_of_row)(task, from, a);
        else if (columns)
            for (ptrdiff_t q = 0; q < columns; q += LANES)
                NAME(limbs_of_columns)(task, from + q * itemsize, task->row_stride, itemsize, itemsize, a * columns + q,
                                       left - q < LANES ? (int)(left - q) : LANES);
        else
            NAME(limbs_of_columns)(task, from, itemsize, task->set_stride, itemsize, a, left < LANES ? (int)left : LANES);
    }
}

/* --- the map ------------------------------------------------------------------------------------------------------ */

/* The parameters of a chunk: one value for all elements (`step` 0), or one for each (`step` 1). */
struct NAME(cell) {
    const double *hi, *lo, *rstd, *slope, *offset, *tail, *rest;
    const uint64_t *base;
    ptrdiff_t step;
};

struct NAME(channel) {
    const double *gamma, *beta, *rest;
    ptrdiff_t step;
};

/* Arrays of parameters, where they are not one value, nor arrays already. */
struct NAME(spread) {
    double cells[7][2 * CHUNK], channels[3][2 * CHUNK];
    uint64_t base[2 * CHUNK];
};

/* Standardize x into z, and bound the error of z. */
INLINE void NAME(standardize)(const double *restrict x, int n, struct NAME(cell) cell, const ptrdiff_t step, int enclosed,
                              double *restrict z, double *restrict bound)
{
    for (int i = 0; i < n; i++) {
        double value = ((x[i] - cell.hi[i * step]) - cell.lo[i * step]) * cell.rstd[i * step];
        z[i] = value;
        if (enclosed)
            bound[i] = __builtin_fabs(value) * cell.slope[i * step] + cell.offset[i * step];
    }
}

/* Apply gamma and beta to z, and carry the bound of its error on. */
INLINE void NAME(affine)(double *restrict z, int n, struct NAME(channel) channel, const ptrdiff_t step, int enclosed,
                         double *restrict bound)
{
    for (int i = 0; i < n; i++) {
        double gamma = channel.gamma[i * step], product = z[i] * gamma, result = product + channel.beta[i * step];
        z[i] = result;
        if (enclosed) {
            double more = (__builtin_fabs(product) + __builtin_fabs(result)) * 0x1p-52;
            bound[i] = bound[i] * __builtin_fabs(gamma) + more;
        }
    }
}

/* Return what the rounding of a product lost (Dekker): twofold.two_product. */
INLINE double NAME(lost_product)(double a, double b, double product)
{
    double a_scaled = 0x1.0000002p27 * a, a_high = a_scaled - (a_scaled - a), a_low = a - a_high;
    double b_scaled = 0x1.0000002p27 * b, b_high = b_scaled - (b_scaled - b), b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
}

/* The same where z was rounded: nothing is lost as long as product and sum are exact. See plain._where_inexact. */
INLINE void NAME(affine_of_rounded)(double *restrict z, int n, struct NAME(channel) channel, const ptrdiff_t step,
                                    int loses, double *restrict bound)
{
    for (int i = 0; i < n; i++) {
        double x = z[i], gamma = channel.gamma[i * step], beta = channel.beta[i * step];
        double product = x * gamma, result = product + beta, part = result - product;
        double lost = (product - (result - part)) + (beta - part);
        double more = (__builtin_fabs(product) + __builtin_fabs(result)) * 0x1p-52;
        int tiny = (__builtin_fabs(product) < 0x1p-900) & (x != 0) & (gamma != 0);
        more = ((NAME(lost_product)(x, gamma, product) + lost != 0) | loses) ? more : 0.0;
        z[i] = result;
        bound[i] = bound[i] * __builtin_fabs(gamma) + (more + (tiny ? 0x1p-900 : 0.0));
    }
}

/* Return the power of two at or below a double, or `least` if it is smaller. */
INLINE double NAME(binade)(double size, double least)
{
    uint64_t bits;
    double power;
    memcpy(&bits, &size, sizeof bits);
    bits &= UINT64_C(0x7ff0000000000000);
    memcpy(&power, &bits, sizeof power);
    return power > least ? power : least;
}

/* Return a double rounded once to a float of fewer digits, to nearest even. */
INLINE float NAME(narrowed)(double value, struct form form)
{
    double size = __builtin_fabs(value), unit, exact;
    unit = NAME(binade)(size, form.least) * form.shift; /* its last place is that of the rounded value */
    exact = (size + unit) - unit;
    exact = exact <= form.largest ? exact : form.beyond; /* false for NaN, too */
    exact = value == value ? exact : value;
    return (float)__builtin_copysign(exact, value);
}

/* Return a double rounded once to the precision of a half; what is too large becomes 65536. */
INLINE float NAME(halved)(double value)
{
    return NAME(narrowed)(value, (struct form){0x1p-14, 0x1.8p+42, 65504.0, 65536.0});
}

/* Return the bits of half precision of what `halved` gave; NaN is the canonical one. */
INLINE uint32_t NAME(half_bits)(float value)
{
    uint32_t bits, narrow;
    float size = __builtin_fabsf(value), shifted;
    uint32_t small = size < 0x1p-14f ? 1 : 0;
    shifted = size + (size < 0x1p-14f ? 0x1p-14f : 0.0f); /* a subnormal number is 2**-14 above itself */
    memcpy(&bits, &value, sizeof bits);
    memcpy(&narrow, &shifted, sizeof narrow);
    narrow = ((narrow >> 13) - ((112 + small) << 10)) | (bits >> 16 & 0x8000);
    return value == value ? narrow : 0x7e00;
}

INLINE uint16_t NAME(to_half)(double value)
{
    return (uint16_t)NAME(half_bits)(NAME(halved)(value));
}

/* Round a vector once to a form; add to `odd` a negative number where an element may be open, overflows, or is NaN.
 *
 * Both ends of a bound are rounded to the same number if they have one sign, and lie less than half a unit of the last
 * place from it; if they are less than a quarter apart from y, they do so across a power of two, too. */
INLINE vd NAME(round_once)(vd y, vd bound, struct form form, const int bounded, vl *odd)
{
    const vl exponent = INT64_C(0x7ff0000000000000) - (vl){0}, minus = INT64_MIN - (vl){0};
    const double half = form.shift / 0x1.8p+53 * (1 - 0x1p-20); /* of 1; the ends themselves are rounded */
    vd size = NAME(size_of)(y), power = NAME(max)((vd)((vl)size & exponent), NAME(all)(form.least));
    vd unit = power * form.shift, exact = (size + unit) - unit;
    *odd |= (vl)((vu)NAME(all)(form.largest) - (vu)exact) | (vl)exact; /* a NaN may be negative */
    if (bounded) {
        vd away = NAME(max)(NAME(size_of)(size - exact), bound) + bound;
        *odd |= (vl)((vu)(power * half) - (vu)away) | (vl)away;
        *odd |= (vl)(y - bound) ^ (vl)(y + bound);
    }
    return (vd)((vl)exact | ((vl)y & minus));
}

/* Round a multiple of `PER` elements of y to floats; see round_narrow. */
INLINE int NAME(round_vectors)(const double *y, const double *bound, int n, struct form form, const int bounded, float *to)
{
    vl odd = {0};
    int64_t any = 0;
    for (int i = 0; i < n; i += PER) {
        vd more = bounded ? NAME(load)((const char *)(bound + i), 0) : NAME(all)(0);
        vd value = NAME(round_once)(NAME(load)((const char *)(y + i), 0), more, form, bounded, &odd);
        vf found = __builtin_convertvector(value, vf);
        memcpy(to + i, &found, sizeof found);
    }
    for (int lane = 0; lane < PER; lane++)
        any |= odd[lane];
    return any < 0;
}

/* Round y to floats; return whether an element may be open: also where a bound is NaN, or y is not finite. */
static __attribute__((noinline)) int NAME(round_narrow)(const double *y, const double *bound, int n, struct form form,
                                                        float *to)
{
    const int whole = n - n % PER, left = n - whole;
    int odd = bound ? NAME(round_vectors)(y, bound, whole, form, 1, to) : NAME(round_vectors)(y, NULL, whole, form, 0, to);
    if (left) {
        double value[PER] = {0}, more[PER] = {0};
        float found[PER];
        memcpy(value, y + whole, (size_t)left * sizeof(double));
        if (bound)
            memcpy(more, bound + whole, (size_t)left * sizeof(double));
        odd |= bound ? NAME(round_vectors)(value, more, PER, form, 1, found) : NAME(round_vectors)(value, NULL, PER, form, 0, found);
        memcpy(to + whole, found, (size_t)left * sizeof(float));
    }
    return odd;
}

/* The same of single precision. With a bound, y less its bound is rounded. */
INLINE int NAME(round_floats)(const double *restrict y, const double *restrict bound, int n, float *restrict to)
{
    uint32_t differ = 0;
    for (int i = 0; i < n; i++) {
        float low = (float)(y[i] - (bound ? bound[i] : 0.0));
        to[i] = low;
        if (bound) {
            float high = (float)(y[i] + bound[i]);
            uint32_t a, b;
            memcpy(&a, &low, sizeof a);
            memcpy(&b, &high, sizeof b);
            differ |= a ^ b;
        }
        differ |= low == low ? 0 : 1;
    }
    return differ != 0;
}

INLINE int NAME(round_halves)(const double *restrict y, const double *restrict bound, int n, uint16_t *restrict to)
{
    const struct form half = {0x1p-14, 0x1.8p+42, 65504.0, INFINITE};
    float rounded[CHUNK];
    int odd = bound ? NAME(round_narrow)(y, bound, n, half, rounded) : NAME(round_narrow)(y, NULL, n, half, rounded);
    for (int i = 0; i < n; i++)
        to[i] = (uint16_t)NAME(half_bits)(rounded[i]);
    return odd;
}

INLINE uint32_t NAME(bits_of_float)(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float NAME(to_float)(double value, struct form form)
{
    float rounded = form.shift != 0 ? NAME(narrowed)(value, form) : (float)value;
    return value == value ? rounded : __builtin_nanf("");
}

INLINE struct form NAME(form_of)(const struct map *task)
{
    return (struct form){task->least, task->shift, task->largest, INFINITE};
}

INLINE double NAME(usual)(double value)
{
    return value == value ? value : __builtin_nan("");
}

/* Round a chunk again, one element after the other, where one is open or not finite; return how many are open. */
static ptrdiff_t NAME(look_closer)(const struct map *task, const double *y, const double *bound, int n, void *made,
                                   ptrdiff_t at, ptrdiff_t found)
{
    ptrdiff_t before = found;
    for (int i = 0; i < n; i++) {
        int differ = 0, finite = NAME(finite)(y[i]);
        double low = bound && finite ? y[i] - bound[i] : y[i], high = bound && finite ? y[i] + bound[i] : y[i];
        if (task->made == F32) {
            float a = NAME(to_float)(low, NAME(form_of)(task)), b = NAME(to_float)(high, NAME(form_of)(task));
            differ = NAME(bits_of_float)(a) != NAME(bits_of_float)(b) || (finite && low != low);
            ((float *)made)[i] = a;
        } else {
            uint16_t a = NAME(to_half)(low);
            differ = a != NAME(to_half)(high) || (finite && low != low);
            ((uint16_t *)made)[i] = a;
        }
        if (differ) {
            if (found < task->room)
                task->open[found] = at + i;
            found++;
        }
    }
    return found - before;
}

/* Round a chunk into z or y, which begin with element 0; return how many elements are open. */
INLINE ptrdiff_t NAME(round_chunk)(const struct map *task, const double *y, const double *bound, int n, int64_t kind,
                                   void *to, ptrdiff_t at, ptrdiff_t found)
{
    if (kind == F64) {
        for (int i = 0; i < n; i++)
            ((double *)to)[at + i] = NAME(usual)(y[i]);
        return 0;
    }
    if (kind == F32) {
        float *made = (float *)to + at;
        struct form form = NAME(form_of)(task);
        int odd;
        if (form.shift != 0)
            odd = bound ? NAME(round_narrow)(y, bound, n, form, made) : NAME(round_narrow)(y, NULL, n, form, made);
        else
            odd = bound ? NAME(round_floats)(y, bound, n, made) : NAME(round_floats)(y, NULL, n, made);
        return odd ? NAME(look_closer)(task, y, bound, n, made, at, found) : 0;
    }
    uint16_t *made = (uint16_t *)to + at;
    int odd = bound ? NAME(round_halves)(y, bound, n, made) : NAME(round_halves)(y, NULL, n, made);
    return odd ? NAME(look_closer)(task, y, bound, n, made, at, found) : 0;
}

/* Repeat each value `length` times, from repetition `l` of the first on, until there are `n`; there is room for more. */
INLINE void NAME(repeat)(const double *from, ptrdiff_t length, ptrdiff_t l, int n, double *restrict to)
{
    if (length == 2 && l == 0) {
        for (int i = 0; i < n / 2; i++)
            to[2 * i] = to[2 * i + 1] = from[i];
        if (n % 2)
            to[n - 1] = from[n / 2];
        return;
    }
    for (ptrdiff_t i = 0, next; i < n; i = next, l = 0, from++) {
        next = length - l < n - i ? i + length - l : n;
        for (; i < next; i += 8) /* too many at a time: the next value overwrites them */
            for (int k = 0; k < 8; k++)
                to[i + k] = *from;
    }
}

/* Return the parameters of the cells of `n` elements from element `at` of the visit on; cut `n` where they end. */
INLINE struct NAME(cell) NAME(cells_of)(const struct map *task, ptrdiff_t at, int *n, struct NAME(spread) *room)
{
    const double *from[7] = {task->hi, task->lo, task->rstd, task->slope, task->offset, task->tail, task->rest};
    struct NAME(cell) spread = {room->cells[0], room->cells[1], room->cells[2], room->cells[3],
                                room->cells[4], room->cells[5], room->cells[6], room->base, 1};
    ptrdiff_t row = task->length * task->width, x = at / row, within = at % row, q = within % task->width;
    ptrdiff_t step = 1, place = x * task->width + q, left = row - within;
    if (task->width == 1 && (left >= *n || left >= LANES))
        step = 0;
    else if (task->width > 1 && task->width - q >= LANES)
        left = task->width - q;
    else { /* short rows or narrow ones: the values are repeated */
        ptrdiff_t l = within / task->width;
        for (int k = 0; task->width == 1 && k < 7; k++)
            if (from[k])
                NAME(repeat)(from[k] + x, task->length, l, *n, room->cells[k]);
        if (task->width == 1 && !task->base)
            return spread;
        for (int i = 0; i < *n; i++) {
            place = x * task->width + q;
            for (int k = 0; k < 7; k++)
                if (from[k])
                    room->cells[k][i] = from[k][place];
            if (task->base)
                room->base[i] = task->base[place];
            if (++q == task->width) {
                q = 0;
                if (++l == task->length) {
                    l = 0;
                    x++;
                }
            }
        }
        return spread;
    }
    *n = left < *n ? (int)left : *n;
    struct NAME(cell) found = {task->hi + place, task->lo + place, task->rstd + place, NULL, NULL, NULL, NULL, NULL, step};
    if (task->slope) {
        found.slope = task->slope + place;
        found.offset = task->offset + place;
    }
    if (task->rest) {
        found.tail = task->tail + place;
        found.rest = task->rest + place;
    }
    if (task->base)
        found.base = task->base + place;
    return found;
}

/* Return the parameters of the channels of `n` elements; cut `n` where they end. */
INLINE struct NAME(channel) NAME(channels_of)(const struct map *task, ptrdiff_t at, int *n, struct NAME(spread) *room)
{
    ptrdiff_t element = task->start + at, c = element / task->inner % task->channels, left = task->inner - element % task->inner;
    if (left >= *n || left >= LANES) {
        *n = left < *n ? (int)left : *n;
        return (struct NAME(channel)){task->gamma + c, task->beta + c, task->rest ? task->gamma_rest + c : NULL, 0};
    }
    if (task->inner == 1 && task->channels - c >= LANES) {
        *n = task->channels - c < *n ? (int)(task->channels - c) : *n;
        return (struct NAME(channel)){task->gamma + c, task->beta + c, task->rest ? task->gamma_rest + c : NULL, 1};
    }
    for (int i = 0; i < *n; i++) {
        room->channels[0][i] = task->gamma[c];
        room->channels[1][i] = task->beta[c];
        if (task->rest)
            room->channels[2][i] = task->gamma_rest[c];
        if (--left == 0) {
            left = task->inner;
            c = c + 1 < task->channels ? c + 1 : 0;
        }
    }
    return (struct NAME(channel)){room->channels[0], room->channels[1], room->channels[2], 1};
}

INLINE double NAME(nearest)(double value, struct form form, const int narrow)
{
    return narrow ? (double)NAME(narrowed)(value, form) : (double)(float)value;
}

/* Round z to the dtype of y, or leave an element with an infinite bound: plain._round_before. */
INLINE void NAME(round_each)(double *restrict z, double *restrict bound, int n, struct form form, const int narrow)
{
    for (int i = 0; i < n; i++) {
        double low = NAME(nearest)(bound ? z[i] - bound[i] : z[i], form, narrow), high = low;
        if (bound) {
            high = NAME(nearest)(z[i] + bound[i], form, narrow);
            uint64_t a, b;
            memcpy(&a, &low, sizeof a);
            memcpy(&b, &high, sizeof b);
            int same = (a == b) & (low == low);
            z[i] = same ? low : z[i];
            bound[i] = same ? 0.0 : INFINITE;
        } else
            z[i] = low;
    }
}

INLINE void NAME(round_before)(const struct map *task, double *z, double *bound, int n)
{
    struct form form = {task->least, task->shift, task->largest, task->beyond};
    const struct form half = {0x1p-14, 0x1.8p+42, 65504.0, INFINITE};
    if (task->made == F16)
        NAME(round_each)(z, bound, n, half, 1);
    else if (task->shift != 0 && bound)
        NAME(round_each)(z, bound, n, form, 1);
    else if (task->shift != 0)
        NAME(round_each)(z, NULL, n, form, 1);
    else
        NAME(round_each)(z, bound, n, form, 0);
}

#define SIDE 4 /* vectors side by side, since each operation waits for the one before */

/* Return e**t: activations.exponential. */
INLINE void NAME(exponential)(const vd *t, vd *found)
{
    static const double series[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                    1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
    vd r[SIDE], p[SIDE], scale[SIDE];
    for (int j = 0; j < SIDE; j++) {
        vd near = NAME(min)(NAME(all)(690), NAME(max)(NAME(all)(-690), t[j]));
        vd shifted = near * 0x1.71547652b82fep+0 + 0x1.8p52, n = shifted - 0x1.8p52;
        r[j] = (near - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
        scale[j] = (vd)(((vl)shifted << 52) + (INT64_C(1023) << 52));
        p[j] = NAME(all)(series[0]);
    }
#pragma GCC unroll 12
    for (int k = 1; k < 12; k++)
        for (int j = 0; j < SIDE; j++)
            p[j] = p[j] * r[j] + series[k];
    for (int j = 0; j < SIDE; j++)
        found[j] = (1.0 + (r[j] + (r[j] * r[j]) * p[j])) * scale[j];
}

/* The gate of an activation: activations.Gate. */
struct NAME(gate) {
    vd value, slope, rate, error;
};

INLINE void NAME(gate_of_gelu)(const vd *u, struct NAME(gate) *found)
{
    static const double series[] = {
        -0x1.3542219af8d99p-33, 0x1.f1def96f2fe49p-30,  0x1.07b19ac76f110p-27,  -0x1.44dfdaa23ca63p-27, -0x1.1bb64b202bd63p-24,
        0x1.6c499ed5b5af2p-25,  0x1.d14360f1dec88p-22,  -0x1.697faaeb77787p-22, -0x1.73b37aaeefae8p-19, 0x1.0b277666c8aa6p-18,
        0x1.17dd7c61e88f6p-16,  -0x1.a170d1ad3253ap-15, -0x1.f2146ec23242dp-15, 0x1.1daf1d3a3df7ap-11,  -0x1.a25037b72beebp-11,
        -0x1.88590eaa1f98cp-9,  0x1.54b4d4f4aa4ccp-6,   -0x1.1b1c254c9ac3cp-4,  0x1.51f6329f01990p-3,   -0x1.410ed5f875a64p-2,
        0x1.fb31653876f8dp-2,   -0x1.54ad03f27ca17p-1,  0x1.89d3abe1f95aep-1};
    vd half[SIDE], less[SIDE], density[SIDE], inverse[SIDE], w[SIDE], p[SIDE];
    for (int j = 0; j < SIDE; j++) {
        vd x = NAME(min)(NAME(all)(38), NAME(size_of)(u[j]));
        half[j] = x * x * 0.5;
        less[j] = -half[j];
        inverse[j] = 1.0 / (x + 5.0);
        w[j] = (x - 5.0) * inverse[j];
        p[j] = NAME(all)(series[0]);
    }
    NAME(exponential)(less, density);
#pragma GCC unroll 23
    for (int k = 1; k < 23; k++)
        for (int j = 0; j < SIDE; j++)
            p[j] = p[j] * w[j] + series[k];
    for (int j = 0; j < SIDE; j++) {
        vd tail = density[j] * (p[j] * inverse[j]);
        found[j].value = NAME(pick)(u[j] > 0, 1.0 - tail, tail);
        found[j].slope = density[j] * 0x1.9884533d43651p-2;
        found[j].rate = 1.0 + NAME(size_of)(u[j]);
        found[j].error = 32.0 + 2.0 * half[j];
    }
}

INLINE void NAME(gate_of_silu)(const vd *u, struct NAME(gate) *found, const int cubic)
{
    vd t[SIDE], less[SIDE], power[SIDE];
    for (int j = 0; j < SIDE; j++) {
        t[j] = u[j];
        found[j].rate = NAME(all)(1);
        if (cubic) {
            vd square = u[j] * u[j];
            t[j] = u[j] * (0x1.9884533d43651p+0 + 0x1.2444f2a4d8b4bp-4 * square);
            t[j] = NAME(min)(NAME(all)(690), NAME(max)(NAME(all)(-690), t[j]));
            found[j].rate = 0x1.9884533d43651p+0 + 3.0 * 0x1.2444f2a4d8b4bp-4 * square;
        }
        less[j] = -t[j];
    }
    NAME(exponential)(less, power);
    for (int j = 0; j < SIDE; j++) {
        vd value = 1.0 / (1.0 + power[j]), other = power[j] * value;
        found[j].value = value;
        found[j].slope = found[j].rate * (value * other);
        found[j].error = 16.0 + 8.0 * (NAME(size_of)(t[j]) * other);
    }
}

/* Read as many numbers as are worked on side by side, and their gates. */
INLINE void NAME(gates)(const double *from, vd *u, struct NAME(gate) *found, const int kind)
{
    for (int j = 0; j < SIDE; j++)
        u[j] = NAME(load)((const char *)(from + j * PER), 0);
    if (kind == GELU)
        NAME(gate_of_gelu)(u, found);
    else
        NAME(gate_of_silu)(u, found, kind == GELU_TANH);
}

/* Write zeros behind `n` numbers of a chunk, as far as they are worked on side by side. */
INLINE void NAME(fill_side)(double *to, int n)
{
    for (int i = n; i % (SIDE * PER); i++)
        to[i] = 0;
}

/* Replace a chunk of u by its activation, and carry the bound on: activations.activate. */
INLINE void NAME(activate)(double *restrict u, double *restrict bound, int n, const int kind)
{
    for (int i = 0; kind == RELU && i < n; i++) {
        double x = u[i];
        u[i] = x <= 0 ? 0.0 : x;
        if (bound)
            bound[i] = (x + bound[i] < 0) | (x == -INFINITE) ? 0.0 : bound[i];
    }
    if (kind == RELU)
        return;
    NAME(fill_side)(u, n);
    if (bound)
        NAME(fill_side)(bound, n);
    for (int i = 0; i < n; i += SIDE * PER) {
        vd x[SIDE];
        struct NAME(gate) gate[SIDE];
        NAME(gates)(u + i, x, gate, kind);
        for (int j = 0; j < SIDE; j++) {
            vd result = NAME(max)(NAME(all)(-690), x[j]) * gate[j].value;
            memcpy(u + i + j * PER, &result, sizeof result);
            if (bound) {
                vd e = NAME(load)((const char *)(bound + i + j * PER), 0);
                vd steep = (gate[j].value + NAME(size_of)(x[j]) * gate[j].slope) * (1 + 0x1p-5);
                steep = NAME(pick)(e * gate[j].rate <= 0x1p-8, steep, NAME(all)(2));
                vd after = e * steep + NAME(size_of)(result) * (gate[j].error * 0x1p-53);
                after = NAME(pick)((x[j] + e <= -128.0) | (x[j] == -INFINITE), NAME(all)(0), after);
                memcpy(bound + i + j * PER, &after, sizeof after);
            }
        }
    }
}

static void NAME(activated)(double *u, double *bound, int n, int64_t kind)
{
    if (kind == RELU)
        NAME(activate)(u, bound, n, RELU);
    else if (kind == SILU && bound)
        NAME(activate)(u, bound, n, SILU);
    else if (kind == SILU)
        NAME(activate)(u, NULL, n, SILU);
    else if (kind == GELU && bound)
        NAME(activate)(u, bound, n, GELU);
    else if (kind == GELU)
        NAME(activate)(u, NULL, n, GELU);
    else if (bound)
        NAME(activate)(u, bound, n, GELU_TANH);
    else
        NAME(activate)(u, NULL, n, GELU_TANH);
}

/* Apply gamma and beta to a chunk, from element `at` of the visit on, and carry the bound on, if there is one. */
INLINE void NAME(scale)(const struct map *task, struct NAME(channel) channel, double *z, double *bound, int n)
{
    int rounds = task->rounds && task->made != F64;
    if (rounds)
        NAME(round_before)(task, z, bound, n);
    if (rounds && bound && channel.step)
        NAME(affine_of_rounded)(z, n, channel, 1, (int)task->loses, bound);
    else if (rounds && bound)
        NAME(affine_of_rounded)(z, n, channel, 0, (int)task->loses, bound);
    else if (channel.step)
        NAME(affine)(z, n, channel, 1, bound != NULL, bound);
    else
        NAME(affine)(z, n, channel, 0, bound != NULL, bound);
    if (task->activation)
        NAME(activated)(z, bound, n, task->activation);
}

/* Sums of two doubles, in the same order of operations as plain._refined. */
struct NAME(two) {
    double high, low;
};

INLINE struct NAME(two) NAME(two_sum)(double a, double b)
{
    double total = a + b, part = total - a;
    return (struct NAME(two)){total, (a - (total - part)) + (b - part)};
}

/* Return what the rounding of a product lost. It is a double, unless something over- or underflows, which `refine` and
 * `scale_refined` look for; so a fused multiply-add finds the same as Dekker's product. */
INLINE struct NAME(two) NAME(two_product)(double a, double b)
{
    double product = a * b;
#if WIDTH > 16
    return (struct NAME(two)){product, __builtin_fma(a, b, -product)};
#else
    return (struct NAME(two)){product, NAME(lost_product)(a, b, product)};
#endif
}

#define FAR 0x1p+900 /* beyond it, or below one over it, products are not taken apart: as in plain.py */

/* How far an element is from the mean, and what its standardized value is the sum of: plain._standardized_in_two. */
struct NAME(parts) {
    double distance, product, left;
};

INLINE struct NAME(parts) NAME(parts_of)(const double *restrict x, const double *restrict more, int i, struct NAME(cell) cell,
                                         const ptrdiff_t step)
{
    double rstd = cell.rstd[i * step];
    struct NAME(two) d = NAME(two_sum)(x[i], -cell.hi[i * step]), e = {d.high, 0}, f, product;
    if (more)
        e = NAME(two_sum)(d.high, more[i]);
    f = NAME(two_sum)(e.high, -cell.lo[i * step]);
    double left = ((d.low + e.low) + f.low) - cell.tail[i * step];
    product = NAME(two_product)(f.high, rstd);
    return (struct NAME(parts)){f.high, product.high, product.low + (f.high * cell.rest[i * step] + left * rstd)};
}

/* Standardize x + more into z + low, and bound the error; the bound is NaN where nothing is known. */
INLINE void NAME(refine)(const double *restrict x, const double *restrict more, int n, struct NAME(cell) cell, const ptrdiff_t step,
                         double *restrict z, double *restrict low, double *restrict bound)
{
    for (int i = 0; i < n; i++) {
        struct NAME(parts) part = NAME(parts_of)(x, more, i, cell, step);
        double sum = part.product + part.left, size = __builtin_fabs(part.distance);
        double limit = __builtin_fabs(sum) * cell.slope[i * step] + cell.offset[i * step];
        int far = (size > FAR) | ((__builtin_fabs(part.product) < 1 / FAR) & (size > 0));
        low[i] = part.left - (sum - part.product);
        z[i] = ((sum - sum == 0) & !far) ? sum : part.product;
        bound[i] = far ? __builtin_nan("") : limit;
    }
}

/* The same without a bound: plain.standardize_in_two. */
INLINE void NAME(refine_alone)(const double *restrict x, const double *restrict more, int n, struct NAME(cell) cell,
                               const ptrdiff_t step, double *restrict z, double *restrict low)
{
    for (int i = 0; i < n; i++) {
        struct NAME(parts) part = NAME(parts_of)(x, more, i, cell, step);
        double product = __builtin_fabs(part.distance) > FAR ? __builtin_nan("") : part.product;
        double left = ((__builtin_fabs(product) < 1 / FAR) & (part.distance != 0)) ? 0.0 : part.left, sum = product + left;
        low[i] = left - (sum - product);
        z[i] = sum;
    }
}

/* Apply gamma and beta to z + low, and carry the bound on. */
INLINE void NAME(scale_refined)(double *restrict z, double *restrict low, int n, struct NAME(channel) channel,
                                const ptrdiff_t step, double *restrict bound)
{
    for (int i = 0; i < n; i++) {
        double gamma = channel.gamma[i * step], beta = channel.beta[i * step], size = __builtin_fabs(gamma);
        struct NAME(two) product = NAME(two_product)(z[i], gamma), sum = NAME(two_sum)(product.high, beta);
        double rest = sum.low + (product.low + (low[i] * gamma + z[i] * channel.rest[i * step])), y = sum.high + rest;
        double limit = bound[i] * size + (__builtin_fabs(product.high) + __builtin_fabs(beta)) * 0x1p-99;
        int far = (size > FAR) | (__builtin_fabs(z[i]) > FAR);
        far |= (__builtin_fabs(product.high) < 1 / FAR) & (z[i] != 0) & (gamma != 0);
        low[i] = rest - (y - sum.high);
        z[i] = y;
        bound[i] = far ? __builtin_nan("") : limit;
    }
}

/* Return an end of what a result y is within: that of relu, or of another activation, whose sign is that of y. */
INLINE double NAME(end_of)(double end, double y, const int kind)
{
    if (kind == NONE)
        return end;
    if (kind == RELU)
        return end <= 0 ? 0.0 : end;
    const int negative = NAME(bits_of)(y) >> 63 != 0;
    return negative & (end >= 0) ? -0.0 : end;
}

/* Round y + low, less the bound, to `to`; return whether an element may be open or not finite. */
INLINE int NAME(round_refined)(const double *restrict y, const double *restrict low, const double *restrict bound, int n,
                               const int kind, double *restrict to)
{
    uint64_t differ = 0;
    for (int i = 0; i < n; i++) {
        double under = y[i] + (low[i] - bound[i]), over = y[i] + (low[i] + bound[i]);
        differ |= under - under == 0 ? 0 : 1;
        under = NAME(end_of)(under, y[i], kind);
        over = NAME(end_of)(over, y[i], kind);
        to[i] = under;
        differ |= NAME(bits_of)(under) ^ NAME(bits_of)(over);
    }
    return differ != 0;
}

/* Look at each element of such a chunk again; return how many are open. Without numbers that are not finite an element
 * is open; with them the result is what float64 gives. */
static ptrdiff_t NAME(look_closer_refined)(const struct map *task, const double *x, struct NAME(cell) cell,
                                           struct NAME(channel) channel, const double *y, const double *low,
                                           const double *bound, int n, ptrdiff_t at, ptrdiff_t found)
{
    const ptrdiff_t before = found;
    const int kind = (int)task->activation;
    double *to = (double *)task->y + at;
    for (int i = 0; i < n; i++) {
        double under = y[i] + (low[i] - bound[i]), over = y[i] + (low[i] + bound[i]), rstd = cell.rstd[i * cell.step];
        double gamma = channel.gamma ? channel.gamma[i * channel.step] : 1, beta = channel.gamma ? channel.beta[i * channel.step] : 0;
        int sure = under - under == 0;
        under = NAME(end_of)(under, y[i], kind);
        over = NAME(end_of)(over, y[i], kind);
        if (sure && NAME(bits_of)(under) == NAME(bits_of)(over))
            continue;
        if (NAME(finite)(x[i]) && NAME(finite)(rstd) && NAME(finite)(gamma) && NAME(finite)(beta)) {
            to[i] = NAME(usual)(under);
            if (found < task->room)
                task->open[found] = at + i;
            found++;
            continue;
        }
        double z = ((x[i] - cell.hi[i * cell.step]) - cell.lo[i * cell.step]) * rstd;
        z = channel.gamma ? z * gamma + beta : z;
        double a[CHUNK];
        a[0] = z;
        if (kind)
            NAME(activated)(a, NULL, 1, kind);
        to[i] = kind > RELU && z == -INFINITE ? -0.0 : NAME(usual)(a[0]);
    }
    return found - before;
}

/* Widen `n` elements to x, or those of 64-bit integers less the base to x + more; return whether they are such. */
INLINE int NAME(widen_in_two)(const struct map *task, const char *from, ptrdiff_t itemsize, int n, struct NAME(cell) cell,
                              double *x, double *more)
{
    const int wide = task->dtype == I64 || task->dtype == U64;
    if (!wide)
        NAME(widen)(from, n, task->dtype, task->swapped, x);
    for (int i = 0; wide && i < n; i++) {
        uint64_t value = NAME(load64)(from + i * itemsize, task->swapped) - (task->base ? cell.base[i * cell.step] : 0);
        uint64_t upper = value & ~UINT64_C(0xffffffff);
        double high = task->dtype == U64 || task->base ? (double)upper : (double)(int64_t)upper;
        struct NAME(two) both = NAME(two_sum)(high, (double)(value & UINT64_C(0xffffffff)));
        x[i] = both.high;
        more[i] = both.low;
    }
    return wide;
}

static int NAME(activate_in_two)(double *u, double *low, double *bound, int n, int64_t kind, double *to);

/* The map in sums of two doubles: plain._refined. */
static int64_t NAME(map_refined)(const struct map *task, const ptrdiff_t start, const ptrdiff_t stop, int64_t found)
{
    static const ptrdiff_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    struct NAME(spread) room;
    double x[CHUNK], more[CHUNK], z[CHUNK], low[CHUNK], bound[CHUNK];
    const ptrdiff_t itemsize = sizes[task->dtype];
    for (ptrdiff_t at = start; at < stop;) {
        int n = stop - at < CHUNK ? (int)(stop - at) : CHUNK;
        const char *from = task->values + at * itemsize;
        struct NAME(cell) cell = NAME(cells_of)(task, at, &n, &room);
        struct NAME(channel) channel = {0};
        if (task->gamma)
            channel = NAME(channels_of)(task, at, &n, &room);
        const int wide = NAME(widen_in_two)(task, from, itemsize, n, cell, x, more);
        if (wide)
            NAME(refine)(x, more, n, cell, cell.step, z, low, bound);
        else if (cell.step)
            NAME(refine)(x, NULL, n, cell, 1, z, low, bound);
        else
            NAME(refine)(x, NULL, n, cell, 0, z, low, bound);
        if (task->z)
            NAME(round_chunk)(task, z, NULL, n, F64, task->z, at - start, 0);
        if (task->gamma && channel.step)
            NAME(scale_refined)(z, low, n, channel, 1, bound);
        else if (task->gamma)
            NAME(scale_refined)(z, low, n, channel, 0, bound);
        double *to = (double *)task->y + at;
        int odd;
        if (task->activation > RELU)
            odd = NAME(activate_in_two)(z, low, bound, n, task->activation, to);
        else if (task->activation)
            odd = NAME(round_refined)(z, low, bound, n, RELU, to);
        else
            odd = NAME(round_refined)(z, low, bound, n, NONE, to);
        if (odd)
            found += NAME(look_closer_refined)(task, x, cell, channel, z, low, bound, n, at, found);
        at += n;
    }
    return found;
}

EXPORT void NAME(standardize_in_two)(const struct map *task);

/* Write z and, as the result, its lower part: plain.standardize_in_two. */
void NAME(standardize_in_two)(const struct map *task)
{
    static const ptrdiff_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    struct NAME(spread) room;
    double x[CHUNK], more[CHUNK];
    ptrdiff_t size = task->num_x * task->length * task->width, itemsize = sizes[task->dtype];
    for (ptrdiff_t at = 0; at < size;) {
        int n = size - at < CHUNK ? (int)(size - at) : CHUNK;
        struct NAME(cell) cell = NAME(cells_of)(task, at, &n, &room);
        const int wide = NAME(widen_in_two)(task, task->values + at * itemsize, itemsize, n, cell, x, more);
        double *z = (double *)task->z + at, *low = (double *)task->y + at;
        if (wide)
            NAME(refine_alone)(x, more, n, cell, cell.step, z, low);
        else if (cell.step)
            NAME(refine_alone)(x, NULL, n, cell, 1, z, low);
        else
            NAME(refine_alone)(x, NULL, n, cell, 0, z, low);
        at += n;
    }
}

/* Return whether a number is what w is rounded to: plain.audit. */
INLINE int NAME(right)(double w, double number, struct form form, double half, double limit)
{
    double size = __builtin_fabs(w), power = NAME(binade)(size, form.least), unit = power * form.shift;
    double found = __builtin_fabs(number), away = power * half;
    int near = (found - away <= size) & (size <= found + away) & (number * w >= 0) & ((number + unit) - unit == number);
    int beyond = number == __builtin_copysign(INFINITE, w), inside = near | ((size == limit) & beyond);
    return (size > limit ? beyond : inside) | ((w - w != 0) & (number - number != 0));
}

/* Return whether all elements of y, a multiple of `PER`, are multiples of the unit of the last place of w, and nearer to
 * it than half of that: then they are right. Count the zeros. */
INLINE int NAME(near_vectors)(const double *w, const float *y, int n, struct form form, double half, int64_t *zeros)
{
    const vl exponent = INT64_C(0x7ff0000000000000) - (vl){0};
    vl odd = {0}, differ = {0}, nothing = {0};
    int64_t any = 0;
    for (int i = 0; i < n; i += PER) {
        vd value = NAME(load)((const char *)(w + i), 0), number = NAME(load)((const char *)(y + i), 1);
        vd power = NAME(max)((vd)((vl)value & exponent), NAME(all)(form.least)), unit = power * form.shift;
        odd |= (vl)((vu)(power * (half * (1 - 0x1p-20))) - (vu)NAME(size_of)(value - number));
        differ |= (vl)((number + unit) - unit - number);
        nothing -= (number == 0) & (value != 0);
    }
    for (int lane = 0; lane < PER; lane++) {
        any |= (differ[lane] & INT64_MAX) != 0 || odd[lane] < 0;
        *zeros += nothing[lane];
    }
    return !any;
}

/* Return whether all elements of y are right at first sight; if they are, count the zeros. */
static __attribute__((noinline)) int NAME(all_near)(const double *w, const float *y, int n, struct form form, double half,
                                                    int64_t *zeros)
{
    const int whole = n - n % PER, left = n - whole;
    int64_t found = 0;
    int near = NAME(near_vectors)(w, y, whole, form, half, &found);
    if (left) {
        double value[PER] = {0};
        float number[PER] = {0};
        memcpy(value, w + whole, (size_t)left * sizeof(double));
        memcpy(number, y + whole, (size_t)left * sizeof(float));
        near &= NAME(near_vectors)(value, number, PER, form, half, &found);
    }
    *zeros += near ? found : 0;
    return near;
}

/* Count the elements of y that are not the rounding of w, and those that are 0 for a w that is not. */
INLINE void NAME(audit_chunk)(struct map *task, const double *restrict w, const float *restrict y, int n)
{
    const struct form form = NAME(form_of)(task);
    const double half = task->shift / 0x1.8p+53, limit = task->limit; /* half a unit of the last place of 1 */
    int64_t wrong = 0, zeros = 0;
    const int near = NAME(all_near)(w, y, n, form, half, &zeros);
    for (int i = 0; !near && i < n; i++) {
        double number = (double)y[i];
        wrong += NAME(right)(w[i], number, form, half, limit) ? 0 : 1;
        zeros += (number == 0) & (w[i] != 0) ? 1 : 0;
    }
    task->wrong += wrong;
    task->zeros += zeros;
}

EXPORT void NAME(audit)(struct map *task);

void NAME(audit)(struct map *task)
{
    for (ptrdiff_t at = 0; at < task->length; at += CHUNK) {
        int n = task->length - at < CHUNK ? (int)(task->length - at) : CHUNK;
        NAME(audit_chunk)(task, (const double *)task->z + at, (const float *)task->y + at, n);
    }
}

/* Map the elements from `start` to `stop`, the first of which has its z at the beginning; `found` elements before them
 * are open. Return how many there are then. Those that are not open are audited, if there is a limit. */
static int64_t NAME(map_run)(struct map *task, const ptrdiff_t start, const ptrdiff_t stop, int64_t found)
{
    static const ptrdiff_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    struct NAME(spread) room;
    double x[CHUNK], z[CHUNK], bound[CHUNK];
    const ptrdiff_t itemsize = sizes[task->dtype];
    int enclosed = task->slope && task->made != F64;
    if (task->rest)
        return NAME(map_refined)(task, start, stop, found);
    for (ptrdiff_t at = start; at < stop;) {
        int n = stop - at < CHUNK ? (int)(stop - at) : CHUNK;
        const char *from = task->values + at * itemsize;
        struct NAME(cell) cell = NAME(cells_of)(task, at, &n, &room);
        struct NAME(channel) channel = {0};
        if (task->gamma)
            channel = NAME(channels_of)(task, at, &n, &room);
        if (task->base)
            for (int i = 0; i < n; i++)
                x[i] = (double)(NAME(load64)(from + i * itemsize, task->swapped) - cell.base[i * cell.step]);
        else
            NAME(widen)(from, n, task->dtype, task->swapped, x);
        if (cell.step)
            NAME(standardize)(x, n, cell, 1, enclosed, z, bound);
        else
            NAME(standardize)(x, n, cell, 0, enclosed, z, bound);
        if (task->z)
            NAME(round_chunk)(task, z, NULL, n, task->checked, task->z, at - start, 0);
        if (task->gamma)
            NAME(scale)(task, channel, z, enclosed ? bound : NULL, n);
        ptrdiff_t opened = NAME(round_chunk)(task, z, enclosed ? bound : NULL, n, task->made, task->y, at, found);
        if (task->limit != 0) {
            const float *y = (const float *)task->y + at;
            NAME(audit_chunk)(task, z, y, n);
            for (ptrdiff_t k = found; k < found + opened && k < task->room; k++) { /* but those */
                int64_t wrong = task->wrong, zeros = task->zeros;
                NAME(audit_chunk)(task, z + (task->open[k] - at), y + (task->open[k] - at), 1);
                task->wrong = 2 * wrong - task->wrong;
                task->zeros = 2 * zeros - task->zeros;
            }
        }
        found += opened;
        at += n;
    }
    return found;
}

EXPORT int64_t NAME(normalize)(struct map *task);

int64_t NAME(normalize)(struct map *task)
{
    return NAME(map_run)(task, 0, task->num_x * task->length * task->width, 0);
}

/* Some blocks of one length that lie one after the other: the first is block `set`, and begins with element `at`. */
struct NAME(run) {
    ptrdiff_t set, at, sets, rows, size;
};

/* Go on to the next run, of about `most` elements; return whether there is one. The last block of a row may be shorter. */
static int NAME(next_run)(const struct map *task, ptrdiff_t block, ptrdiff_t most, struct NAME(run) *run)
{
    const ptrdiff_t whole = task->length / block, rest = task->length % block, blocks = whole + (rest > 0);
    run->set += run->sets;
    run->at += run->size;
    const int last = run->set % blocks == whole;
    const ptrdiff_t left = last ? 1 : rest ? whole - run->set % blocks : task->num_x * blocks - run->set;
    run->rows = last ? rest : block;
    run->sets = most / (run->rows * task->width);
    run->sets = run->sets > left ? left : run->sets > 1 ? run->sets : 1;
    run->size = run->sets * run->rows * task->width;
    return run->set < task->num_x * blocks;
}

/* Measure the blocks of a run, whose elements are at `values`; `of` has places for those of all runs. */
static void NAME(measure_run)(const struct moments *of, const struct NAME(run) *run, const void *values, ptrdiff_t width,
                              ptrdiff_t itemsize)
{
    const ptrdiff_t place = run->set * (of->columns ? width : 1);
    struct moments task = *of;
    double **fields[] = {&task.n, &task.hi, &task.lo, &task.m2, &task.square, &task.nan, &task.posinf, &task.neginf};
    task.values = values;
    task.sets = run->sets;
    task.rows = run->rows;
    task.row_stride = width * itemsize;
    task.set_stride = run->rows * width * itemsize;
    for (int k = 0; k < 8; k++)
        *fields[k] += place;
    task.least = (double *)task.least + place;
    task.most = (double *)task.most + place;
    task.power += place;
    NAME(moments)(&task);
}

EXPORT int64_t NAME(verify)(struct map *task, const struct moments *of_z, ptrdiff_t block, ptrdiff_t most);

/* Do what normalize() does, and measure z block by block: plain.verify. task->z has room for `most` elements, at least
 * one block; what it holds is measured while it is in the cache. */
int64_t NAME(verify)(struct map *task, const struct moments *of_z, ptrdiff_t block, ptrdiff_t most)
{
    struct NAME(run) run = {0};
    int64_t found = 0;
    task->wrong = task->zeros = 0;
    while (NAME(next_run)(task, block, most, &run)) {
        found = NAME(map_run)(task, run.at, run.at + run.size, found);
        NAME(measure_run)(of_z, &run, task->z, task->width, task->checked == F64 ? 8 : task->checked == F32 ? 4 : 2);
    }
    return found;
}

/* --- derivatives --------------------------------------------------------------------------------------------------- */

/* Replace the error of a chunk of u by the bound of that of the derivative: activations.derivative_in_two. */
INLINE void NAME(bound_slope)(const double *restrict from, double *restrict error, int n, const int kind)
{
    NAME(fill_side)(error, n);
    for (int i = 0; i < n; i += SIDE * PER) {
        vd u[SIDE];
        struct NAME(gate) gate[SIDE];
        NAME(gates)(from + i, u, gate, kind);
        for (int j = 0; j < SIDE; j++) {
            vd e = NAME(load)((const char *)(error + i + j * PER), 0), size = NAME(size_of)(u[j]);
            vd steep = gate[j].slope * (4.0 + size * gate[j].rate) * (1 + 0x1p-5);
            steep = NAME(pick)(e * gate[j].rate <= 0x1p-8, steep, NAME(all)(1));
            vd own = (gate[j].value + size * gate[j].slope) * 0x1p-88;
            if (kind == GELU)
                own += NAME(pick)(size < 4.0, NAME(all)(0x1p-90), NAME(all)(0));
            e = (own + steep * e + 0x1p-700) * UP;
            memcpy(error + i + j * PER, &e, sizeof e);
        }
    }
}

/* Replace a chunk of u by the derivative of an activation, and the bound of its error: activations.derivative. */
INLINE void NAME(derivative_of)(double *restrict to, double *restrict bound, int n, const int kind)
{
    NAME(fill_side)(to, n);
    NAME(fill_side)(bound, n);
    for (int i = 0; i < n; i += SIDE * PER) {
        vd u[SIDE];
        struct NAME(gate) gate[SIDE];
        NAME(gates)(to + i, u, gate, kind);
        for (int j = 0; j < SIDE; j++) {
            vd e = NAME(load)((const char *)(bound + i + j * PER), 0), size = NAME(size_of)(u[j]);
            vd steep = gate[j].slope * (4.0 + size * gate[j].rate) * (1 + 0x1p-5);
            steep = NAME(pick)(e * gate[j].rate <= 0x1p-8, steep, NAME(all)(1));
            vd own = gate[j].value * gate[j].error + size * gate[j].slope * (32.0 + 8.0 * (size * gate[j].rate));
            vd near = e * steep + own * 0x1p-53, found = gate[j].value + u[j] * gate[j].slope;
            vd end = NAME(pick)(u[j] > 0, NAME(all)(1), NAME(all)(0));
            vl close = size < 128.0, nan = u[j] != u[j];
            found = NAME(pick)(close, found, NAME(pick)(nan, u[j], end));
            near = NAME(pick)(nan, NAME(all)(__builtin_nan("")), NAME(pick)(close, near, NAME(all)(0)) + 0x1p-170);
            memcpy(to + i + j * PER, &found, sizeof found);
            memcpy(bound + i + j * PER, &near, sizeof near);
        }
    }
}

EXPORT void NAME(derivative)(int64_t kind, double *u, double *bound, ptrdiff_t size);

void NAME(derivative)(int64_t kind, double *u, double *bound, ptrdiff_t size)
{
    double part[CHUNK], error[CHUNK];
    for (ptrdiff_t at = 0; at < size; at += CHUNK) {
        const int n = size - at < CHUNK ? (int)(size - at) : CHUNK;
        memcpy(part, u + at, (size_t)n * sizeof *u);
        memcpy(error, bound + at, (size_t)n * sizeof *u);
        if (kind == SILU)
            NAME(derivative_of)(part, error, n, SILU);
        else if (kind == GELU)
            NAME(derivative_of)(part, error, n, GELU);
        else
            NAME(derivative_of)(part, error, n, GELU_TANH);
        memcpy(u + at, part, (size_t)n * sizeof *u);
        memcpy(bound + at, error, (size_t)n * sizeof *u);
    }
}

/* Replace the error of a chunk of u by the bound of that of the derivative in sums of two doubles. */
static void NAME(bound_slopes)(const double *u, double *error, int n, int64_t kind)
{
    double part[CHUNK], e[CHUNK];
    memcpy(part, u, (size_t)n * sizeof *u);
    memcpy(e, error, (size_t)n * sizeof *u);
    NAME(fill_side)(part, n);
    if (kind == GELU)
        NAME(bound_slope)(part, e, n, GELU);
    else if (kind == SILU)
        NAME(bound_slope)(part, e, n, SILU);
    else
        NAME(bound_slope)(part, e, n, GELU_TANH);
    memcpy(error, e, (size_t)n * sizeof *u);
}

/* --- activations in sums of two doubles ---------------------------------------------------------------------------- */

/* Vectors of sums of two doubles, in the order of operations of twofold.py. */
#define vp NAME(vp)
typedef struct {
    vd high, low;
} vp;

INLINE vp NAME(sum2)(vd a, vd b)
{
    vd total = a + b, part = total - a;
    return (vp){total, (a - (total - part)) + (b - part)};
}

INLINE vp NAME(product2)(vd a, vd b)
{
    vd a_scaled = 0x1.0000002p27 * a, a_high = a_scaled - (a_scaled - a), a_low = a - a_high;
    vd b_scaled = 0x1.0000002p27 * b, b_high = b_scaled - (b_scaled - b), b_low = b - b_high, product = a * b;
    return (vp){product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low};
}

INLINE vp NAME(plus_pair)(vp a, vp b)
{
    vp total = NAME(sum2)(a.high, b.high);
    return NAME(sum2)(total.high, total.low + (a.low + b.low));
}

INLINE vp NAME(times_pair)(vp a, vp b)
{
    vp product = NAME(product2)(a.high, b.high);
    return NAME(sum2)(product.high, product.low + (a.high * b.low + a.low * b.high));
}

INLINE vp NAME(over_pair)(double number, vp by)
{
    vd found = number / by.high;
    vp product = NAME(product2)(found, by.high);
    return NAME(sum2)(found, ((number - product.high) - product.low - found * by.low) / by.high);
}

/* The same of twofold.py's loose pairs, where no product is next to over- or underflow: what it lost is then a double,
 * which is found at once. */
INLINE vp NAME(loose_product)(vd a, vd b)
{
#if WIDTH > 16
    vd product = a * b;
    return (vp){product, NAME(exact_sum)(a, b, -product)};
#else
    return NAME(product2)(a, b);
#endif
}

INLINE vp NAME(loose_plus)(vp a, vp b)
{
    vp total = NAME(sum2)(a.high, b.high);
    return (vp){total.high, total.low + (a.low + b.low)};
}

INLINE vp NAME(loose_times)(vp a, vp b)
{
    vp product = NAME(loose_product)(a.high, b.high);
    return (vp){product.high, product.low + (a.high * b.low + a.low * b.high)};
}

INLINE vp NAME(loose_inverse)(vp of)
{
    vd found = 1.0 / of.high;
    vp product = NAME(loose_product)(found, of.high);
    return (vp){found, ((1.0 - product.high) - product.low - found * of.low) * found};
}

INLINE vp NAME(both)(double high, double low)
{
    return (vp){NAME(all)(high), NAME(all)(low)};
}

INLINE vp NAME(choose)(vl which, vp a, vp b)
{
    return (vp){NAME(pick)(which, a.high, b.high), NAME(pick)(which, a.low, b.low)};
}

/* Return u, or the end of where e**u is computed: activations._cut. */
INLINE vp NAME(cut)(vp u)
{
    vd end = (vd)(((vl)u.high & INT64_MIN) | (vl)NAME(all)(690));
    return NAME(choose)(NAME(size_of)(u.high) < 690.0, u, (vp){end, NAME(all)(0)});
}

INLINE vp NAME(absolute)(vp u)
{
    vd sign = NAME(choose)(u.high < 0, NAME(both)(-1, 0), NAME(both)(1, 0)).high;
    return (vp){u.high * sign, u.low * sign};
}

#undef SIDE
#define SIDE 2 /* sums of two doubles take more registers */

/* Return e**-t: activations._decay_in_two. */
INLINE void NAME(decay)(const vp *t, vp *found)
{
    vp r[SIDE];
    vd scale[SIDE];
    for (int j = 0; j < SIDE; j++) {
        vp from = NAME(choose)(t[j].high < 690.0, t[j], NAME(both)(690, 0));
        vd shifted = from.high * 0x1.71547652b82fep+0 + 0x1.8p52, n = shifted - 0x1.8p52;
        scale[j] = (vd)((INT64_C(1023) << 52) - ((vl)shifted << 52));
        r[j] = NAME(plus_pair)((vp){n * 0x1.62e42feep-1, NAME(all)(0)}, (vp){-from.high, -from.low});
        r[j] = NAME(plus_pair)(r[j], NAME(times_pair)(NAME(both)(0x1.a39ef35793c76p-33, 0x1.cc01f97b57a08p-87), (vp){n, NAME(all)(0)}));
        r[j] = (vp){r[j].high * 0x1p-8, r[j].low * 0x1p-8};
        found[j] = NAME(both)(0, 0);
    }
    for (int k = 0; k < 12; k++)
        for (int j = 0; j < SIDE; j++)
            found[j] = NAME(plus_pair)(NAME(times_pair)(found[j], r[j]), NAME(both)(inverse[k][0], inverse[k][1]));
    for (int k = 0; k < 8; k++)
        for (int j = 0; j < SIDE; j++)
            found[j] = NAME(times_pair)(found[j], found[j]);
    for (int j = 0; j < SIDE; j++)
        found[j] = (vp){found[j].high * scale[j], found[j].low * scale[j]};
}

INLINE int NAME(any)(vl which)
{
    int64_t found = 0;
    for (int lane = 0; lane < PER; lane++)
        found |= which[lane];
    return found != 0;
}

/* Return the distribution function of the normal distribution and its density: activations._gelu. */
INLINE void NAME(normal)(const vp *u, vp *value, vp *density)
{
    vp x[SIDE], square[SIDE], half[SIDE], near[SIDE], far[SIDE];
    vl within = {0}, beyond = {0};
    for (int j = 0; j < SIDE; j++) {
        x[j] = NAME(absolute)(u[j]);
        within |= x[j].high < 4.0;
        beyond |= ~(x[j].high < 4.0);
        x[j] = NAME(choose)(x[j].high < 37.0, x[j], NAME(both)(37, 0));
        square[j] = NAME(times_pair)(x[j], x[j]);
        half[j] = (vp){square[j].high / 2, square[j].low / 2};
        near[j] = far[j] = NAME(both)(0, 0);
    }
    NAME(decay)(half, density);
    for (int j = 0; j < SIDE; j++)
        density[j] = NAME(times_pair)(NAME(both)(0x1.9884533d43651p-2, -0x1.cbc0d30ebfd15p-56), density[j]);
    if (NAME(any)(within)) {
        for (int k = 0; k < 64; k++)
            for (int j = 0; j < SIDE; j++)
                near[j] = NAME(plus_pair)(NAME(times_pair)(near[j], square[j]), NAME(both)(odd[k][0], odd[k][1]));
        for (int j = 0; j < SIDE; j++) {
            vp part = NAME(times_pair)(density[j], NAME(times_pair)(x[j], near[j]));
            near[j] = NAME(plus_pair)(NAME(both)(0.5, 0), (vp){-part.high, -part.low});
        }
    }
    if (NAME(any)(beyond)) {
        for (int j = 0; j < SIDE; j++)
            far[j] = x[j];
        for (int k = 100; k > 0; k--)
            for (int j = 0; j < SIDE; j++)
                far[j] = NAME(plus_pair)(x[j], NAME(over_pair)(k, far[j]));
        for (int j = 0; j < SIDE; j++)
            far[j] = NAME(times_pair)(density[j], NAME(over_pair)(1, far[j]));
    }
    for (int j = 0; j < SIDE; j++) {
        vp tail = NAME(choose)(x[j].high < 4.0, near[j], far[j]);
        value[j] = NAME(choose)(u[j].high > 0, NAME(plus_pair)(NAME(both)(1, 0), (vp){-tail.high, -tail.low}), tail);
    }
}

/* Return the gate of silu or gelu-tanh and its slope: activations._slopes. */
INLINE void NAME(logistic)(const vp *u, vp *value, vp *slope, const int cubic)
{
    vp t[SIDE], rate[SIDE], size[SIDE], power[SIDE];
    for (int j = 0; j < SIDE; j++) {
        t[j] = u[j];
        rate[j] = NAME(both)(1, 0);
        if (cubic) {
            const vp two = NAME(both)(0x1.9884533d43651p+0, -0x1.cbc0d30ebfd15p-54);
            vp cube = NAME(times_pair)(NAME(both)(0x1.2444f2a4d8b4bp-4, -0x1.6c843a29d1c70p-61), NAME(times_pair)(u[j], u[j]));
            t[j] = NAME(times_pair)(u[j], NAME(plus_pair)(two, cube));
            rate[j] = NAME(plus_pair)(two, NAME(times_pair)(NAME(both)(3, 0), cube));
        }
        size[j] = NAME(absolute)(t[j]);
    }
    NAME(decay)(size, power);
    for (int j = 0; j < SIDE; j++) {
        vp large = NAME(over_pair)(1, NAME(plus_pair)(NAME(both)(1, 0), power[j])), small = NAME(times_pair)(power[j], large);
        value[j] = NAME(choose)(u[j].high > 0, large, small);
        slope[j] = NAME(times_pair)(rate[j], NAME(times_pair)(large, small));
    }
}

/* Replace u by the derivative of an activation there: activations._slopes. */
INLINE void NAME(derive)(double *high, double *low, int n, const int kind)
{
    for (int at = 0; at < n; at += SIDE * PER) {
        vp u[SIDE], value[SIDE], slope[SIDE];
        for (int j = 0; j < SIDE; j++) {
            memcpy(&u[j].high, high + at + j * PER, sizeof u[j].high);
            memcpy(&u[j].low, low + at + j * PER, sizeof u[j].low);
            u[j] = NAME(cut)(u[j]);
        }
        if (kind == GELU)
            NAME(normal)(u, value, slope);
        else
            NAME(logistic)(u, value, slope, kind == GELU_TANH);
        for (int j = 0; j < SIDE; j++) {
            vp found = NAME(plus_pair)(value[j], NAME(times_pair)(u[j], slope[j]));
            memcpy(high + at + j * PER, &found.high, sizeof found.high);
            memcpy(low + at + j * PER, &found.low, sizeof found.low);
        }
    }
}

/* Return e**-t: activations._quick_decay. */
INLINE vp NAME(quick_decay)(vp t)
{
    t = NAME(choose)(t.high < 600.0, t, NAME(both)(600, 0));
    vd shifted = t.high * (0x1.71547652b82fep+0 * 64) + 0x1.8p52, n = shifted - 0x1.8p52;
    vp r = NAME(sum2)(n * (0x1.62e42feep-1 / 64), -t.high), power = NAME(both)(0, 0);
    r = NAME(sum2)(r.high, r.low + (n * (0x1.a39ef35793c76p-33 / 64) - t.low));
    vd p = NAME(all)(1.0 / 5040) * r.high + 1.0 / 720;
    p = p * r.high + 1.0 / 120;
    p = p * r.high + 1.0 / 24;
    p = p * r.high + 1.0 / 6;
    p = p * r.high + 1.0 / 2;
    vd rest = r.low + r.high * (r.high * p + r.low);
    vl place = (vl)shifted & ((1 << 20) - 1), within = place & 63;
    for (int lane = 0; lane < PER; lane++) {
        power.high[lane] = powers[within[lane]][0];
        power.low[lane] = powers[within[lane]][1];
    }
    vp product = NAME(loose_product)(power.high, r.high), total = NAME(sum2)(power.high, product.high);
    vd more = product.low + (power.high * rest + (power.low + power.low * r.high));
    total = NAME(sum2)(total.high, total.low + more);
    vd scale = (vd)((1023 - (place >> 6)) << 52);
    return (vp){total.high * scale, total.low * scale};
}

/* Return 1 less the distribution function of the normal distribution: activations._quick_tail. */
INLINE vp NAME(quick_tail)(vp x)
{
    x = NAME(choose)(x.high < 34.0, x, NAME(both)(34, 0));
    vp square = NAME(loose_times)(x, x), inverse = NAME(loose_inverse)(NAME(loose_plus)(x, NAME(both)(5, 0)));
    vp w = NAME(loose_times)(NAME(loose_plus)(x, NAME(both)(-5, 0)), inverse);
    vp total = {NAME(all)(quick_tail[0]), NAME(all)(0)};
    for (size_t k = 1; k < sizeof quick_tail / sizeof *quick_tail; k++)
        total.high = total.high * w.high + quick_tail[k];
    for (size_t k = 0; k < sizeof quick_tail_in_two / sizeof *quick_tail_in_two; k++)
        total = NAME(loose_plus)(NAME(loose_times)(total, w), NAME(both)(quick_tail_in_two[k][0], quick_tail_in_two[k][1]));
    vp decay = NAME(quick_decay)((vp){square.high / 2, square.low / 2});
    return NAME(loose_times)(decay, NAME(loose_times)(total, inverse));
}

/* Return the gate of an activation: activations._quick_gate. */
INLINE vp NAME(quick_gate)(vp u, const int kind)
{
    if (kind == GELU) {
        vp tail = NAME(quick_tail)(NAME(absolute)(u));
        return NAME(choose)(u.high > 0, NAME(loose_plus)(NAME(both)(1, 0), (vp){-tail.high, -tail.low}), tail);
    }
    vp t = u;
    if (kind == GELU_TANH) {
        vp cube = NAME(loose_times)(NAME(both)(0x1.2444f2a4d8b4bp-4, -0x1.6c843a29d1c70p-61), NAME(loose_times)(u, u));
        t = NAME(loose_times)(u, NAME(loose_plus)(NAME(both)(0x1.9884533d43651p+0, -0x1.cbc0d30ebfd15p-54), cube));
    }
    vp power = NAME(quick_decay)(NAME(absolute)(t)), large = NAME(loose_inverse)(NAME(loose_plus)(NAME(both)(1, 0), power));
    return NAME(choose)(u.high > 0, large, NAME(loose_times)(power, large));
}

/* Replace u by the activation there, and carry its bound on: activations.activate_in_two. */
INLINE void NAME(activate_pairs)(double *high, double *low, double *bound, int n, const int kind, const int quick)
{
    const double far = kind == SILU ? -600 : kind == GELU ? -34 : -19.5, least = kind == SILU ? -690 : kind == GELU ? -37 : -20.9;
    const double zero = kind == SILU ? -752 : kind == GELU ? -38.6 : -21.6;
    for (int at = 0; at < n; at += SIDE * PER) {
        vp u[SIDE], near[SIDE], value[SIDE], slope[SIDE];
        for (int j = 0; j < SIDE; j++) {
            memcpy(&u[j].high, high + at + j * PER, sizeof u[j].high);
            memcpy(&u[j].low, low + at + j * PER, sizeof u[j].low);
            near[j] = NAME(cut)(u[j]);
        }
        if (quick)
            for (int j = 0; j < SIDE; j++)
                value[j] = NAME(quick_gate)(u[j], kind);
        else if (kind == GELU)
            NAME(normal)(near, value, slope);
        else
            NAME(logistic)(near, value, slope, kind == GELU_TANH);
        for (int j = 0; j < SIDE; j++) {
            vd error, size = NAME(absolute)(u[j]).high, rate = NAME(all)(1), own = value[j].high * (quick ? 0x1p-65 : 0x1p-88);
            memcpy(&error, bound + at + j * PER, sizeof error);
            if (kind == GELU) {
                rate = 1.0 + size;
                own += quick ? NAME(all)(0) : (vd)((vl)NAME(all)(0x1p-90) & (size < 4.0));
            } else if (kind == GELU_TANH)
                rate = 0x1.9884533d43651p+0 + 3.0 * 0x1.2444f2a4d8b4bp-4 * (u[j].high * u[j].high);
            vd steep = NAME(min)(value[j].high * (1.0 + size * rate) * (1 + 0x1p-5), NAME(all)(2));
            steep = NAME(pick)(error * rate <= 0x1p-8, steep, NAME(all)(2));
            vd limit = (error * steep + (size * own + 0x1p-1060)) * UP;
            vl none = u[j].high + error <= zero, exact = (size == 0.0) & (error == 0.0);
            vl lost = (u[j].high <= (quick ? far : least)) | ((size <= 2.0 * error) & (error > 0.0));
            if (quick)
                lost |= (size > FAR) | ((size < 1 / FAR) & (size > 0.0));
            vp found = quick ? NAME(loose_times)(u[j], value[j]) : NAME(times_pair)(u[j], value[j]);
            found = NAME(choose)(none, NAME(both)(-0.0, 0), found);
            limit = NAME(pick)(none | exact, NAME(all)(0), NAME(pick)(lost, NAME(all)(__builtin_nan("")), limit));
            memcpy(high + at + j * PER, &found.high, sizeof found.high);
            memcpy(low + at + j * PER, &found.low, sizeof found.low);
            memcpy(bound + at + j * PER, &limit, sizeof limit);
        }
    }
}

/* The same of a chunk, which is filled up with zeros. */
static void NAME(activate_chunk)(double *u, double *low, double *bound, int n, int64_t kind, int quick)
{
    for (int i = n; i % (SIDE * PER); i++)
        u[i] = low[i] = bound[i] = 0;
    if (kind == SILU && quick)
        NAME(activate_pairs)(u, low, bound, n, SILU, 1);
    else if (kind == SILU)
        NAME(activate_pairs)(u, low, bound, n, SILU, 0);
    else if (kind == GELU && quick)
        NAME(activate_pairs)(u, low, bound, n, GELU, 1);
    else if (kind == GELU)
        NAME(activate_pairs)(u, low, bound, n, GELU, 0);
    else if (quick)
        NAME(activate_pairs)(u, low, bound, n, GELU_TANH, 1);
    else
        NAME(activate_pairs)(u, low, bound, n, GELU_TANH, 0);
}

/* Replace a chunk of u by its activation, quickly, and where that does not do, to more digits; round it to `to`. Return
 * whether an element may be open or not finite: plain._activate_refined. */
static int NAME(activate_in_two)(double *u, double *low, double *bound, int n, int64_t kind, double *to)
{
    double before[CHUNK], before_low[CHUNK], error[CHUNK];
    int place[CHUNK], count = 0, left = 0;
    memcpy(before, u, (size_t)n * sizeof *u);
    memcpy(before_low, low, (size_t)n * sizeof *u);
    memcpy(error, bound, (size_t)n * sizeof *u);
    NAME(activate_chunk)(u, low, bound, n, kind, 1);
    for (int at = 0; at < n; at += LANES) {
        const int end = at + LANES < n ? at + LANES : n;
        const int odd = NAME(round_refined)(u + at, low + at, bound + at, end - at, SILU, to + at);
        for (int i = at; odd && i < end; i++) {
            double over = NAME(end_of)(u[i] + (low[i] + bound[i]), u[i], SILU);
            if (NAME(finite)(to[i]) && NAME(bits_of)(to[i]) == NAME(bits_of)(over))
                continue;
            left = 1;
            if (NAME(finite)(before[i])) {
                before[count] = before[i];
                before_low[count] = before_low[i];
                error[count] = error[i];
                place[count++] = i;
            }
        }
    }
    if (!left)
        return 0;
    NAME(activate_chunk)(before, before_low, error, count, kind, 0);
    for (int i = 0; i < count; i++) {
        u[place[i]] = before[i];
        low[place[i]] = before_low[i];
        bound[place[i]] = error[i];
    }
    return NAME(round_refined)(u, low, bound, n, SILU, to);
}

/* Standardize and map x, of which the scale is 2 to the power of `power`: plain.argument. `error` takes the bounds. */
INLINE void NAME(argument)(const double *restrict x, const double *restrict gamma, const double *restrict rest,
                           const double *restrict beta, int n, int power, const double *cell, double *restrict high,
                           double *restrict low, double *restrict error)
{
    const double mean = cell[0], mean_low = cell[1], rstd = cell[2], rstd_low = cell[3];
    const double scale = NAME(two_to)(power > 1000 ? 1000 : power), more = NAME(two_to)(power > 1000 ? power - 1000 : 0);
    for (int i = 0; i < n; i++) {
        double value = x[i] * scale * more;
        struct NAME(two) total = NAME(two_sum)(value, -mean), less = NAME(two_sum)(total.high, -mean_low);
        struct NAME(two) d = NAME(two_sum)(less.high, total.low + less.low);
        double d_error = 0x1p-100 * (__builtin_fabs(value) + __builtin_fabs(mean)) + 0x1p-1060;
        double product = d.high * rstd, lost = NAME(lost_product)(d.high, rstd, product);
        struct NAME(two) z = NAME(two_sum)(product, lost + (d.high * rstd_low + d.low * rstd));
        double z_error = d_error * rstd + 0x1p-98 * __builtin_fabs(z.high) + 0x1p-1000;
        double y = z.high * gamma[i], y_low = NAME(lost_product)(z.high, gamma[i], y);
        y_low += z.low * gamma[i] + z.high * rest[i];
        struct NAME(two) sum = NAME(two_sum)(y, beta[i]), found = NAME(two_sum)(sum.high, sum.low + y_low);
        high[i] = found.high;
        low[i] = found.low;
        error[i] = __builtin_fabs(gamma[i]) * z_error + 0x1p-96 * (__builtin_fabs(y) + __builtin_fabs(beta[i])) + 0x1p-900;
    }
}

/* Replace a chunk of u by the derivative of an activation, and the errors by bounds. */
static void NAME(derive_chunk)(double *u, double *u_low, double *bound, int n, int64_t kind)
{
    for (int i = n; i % (SIDE * PER); i++)
        u[i] = u_low[i] = 0;
    NAME(bound_slopes)(u, bound, n, kind);
    if (kind == GELU)
        NAME(derive)(u, u_low, n, GELU);
    else if (kind == SILU)
        NAME(derive)(u, u_low, n, SILU);
    else
        NAME(derive)(u, u_low, n, GELU_TANH);
}

EXPORT void NAME(derivative_in_two)(int64_t kind, double *high, double *low, double *bound, ptrdiff_t size);

void NAME(derivative_in_two)(int64_t kind, double *high, double *low, double *bound, ptrdiff_t size)
{
    double u[CHUNK], u_low[CHUNK];
    for (ptrdiff_t at = 0; at < size; at += CHUNK) {
        const int n = size - at < CHUNK ? (int)(size - at) : CHUNK;
        memcpy(u, high + at, (size_t)n * sizeof *u);
        memcpy(u_low, low + at, (size_t)n * sizeof *u);
        NAME(derive_chunk)(u, u_low, bound + at, n, kind);
        memcpy(high + at, u, (size_t)n * sizeof *u);
        memcpy(low + at, u_low, (size_t)n * sizeof *u);
    }
}

EXPORT void NAME(slopes)(const double *x, const double *gamma, const double *rest, const double *beta, ptrdiff_t size,
                         ptrdiff_t power, const double *cell, int64_t kind, double *high, double *low, double *bound);

/* Write the derivatives of an activation for the elements of a cell, in two doubles, and their bounds: plain.slopes. */
void NAME(slopes)(const double *x, const double *gamma, const double *rest, const double *beta, ptrdiff_t size,
                  ptrdiff_t power, const double *cell, int64_t kind, double *high, double *low, double *bound)
{
    double u[CHUNK], u_low[CHUNK];
    for (ptrdiff_t at = 0; at < size; at += CHUNK) {
        const int n = size - at < CHUNK ? (int)(size - at) : CHUNK;
        NAME(argument)(x + at, gamma + at, rest + at, beta + at, n, (int)power, cell, u, u_low, bound + at);
        NAME(derive_chunk)(u, u_low, bound + at, n, kind);
        memcpy(high + at, u, (size_t)n * sizeof *u);
        memcpy(low + at, u_low, (size_t)n * sizeof *u);
    }
}

#undef SIDE

/* --- gradients ---------------------------------------------------------------------------------------------------- */

/* The products of a and b, or a where b is NULL: arrays of floats or doubles, by the numbers of their dtypes. */
#define PRODUCT const char *a, int64_t a_dtype, const char *b, int64_t b_dtype

/* dx before it is rounded, from g, and the bounds of its error, of `n` elements from element `at` on: of one cell, or
 * with a `step` of 1 of one cell each. */
INLINE void NAME(slope_run)(const double *restrict g, const double *restrict z, const double *errors, ptrdiff_t n,
                            const double *own, const ptrdiff_t fields, const ptrdiff_t step, double *restrict dx,
                            double *restrict bound)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const double *of = own + i * step;
        const double rate = of[0], first = of[fields], second = of[2 * fields];
        const double on_g = of[3 * fields], on_z = of[4 * fields], base = of[5 * fields];
        dx[i] = ((g[i] - first) - z[i] * second) * rate + 0.0;
        bound[i] = (__builtin_fabs(g[i]) * on_g + __builtin_fabs(z[i]) * on_z) + base;
        if (errors)
            bound[i] += errors[i] * (__builtin_fabs(rate) * UP);
    }
}

/* Round a chunk of numbers to y, from element `at` of it on; name those that are open, and count the zeros of others. What
 * does not pass at first sight is rounded one by one. */
static int64_t NAME(enclose)(struct map *task, const double *values, const double *bound, int n, ptrdiff_t at, int64_t found)
{
    const struct form form = NAME(form_of)(task);
    const int narrow = form.shift != 0, half = task->made == F16;
    const int64_t before = found;
    float *y = (float *)task->y + at;
    int odd;
    if (half)
        odd = NAME(round_halves)(values, bound, n, (uint16_t *)task->y + at);
    else if (narrow)
        odd = NAME(round_narrow)(values, bound, n, form, y);
    else
        odd = NAME(round_floats)(values, bound, n, y);
    for (int i = 0; odd && i < n; i++) {
        double low = values[i] - bound[i], high = values[i] + bound[i];
        float a = half ? NAME(halved)(low) : narrow ? NAME(narrowed)(low, form) : (float)low;
        float b = half ? NAME(halved)(high) : narrow ? NAME(narrowed)(high, form) : (float)high;
        if (half)
            ((uint16_t *)task->y)[at + i] = (uint16_t)NAME(half_bits)(a);
        else
            y[i] = a;
        if (NAME(bits_of_float)(a) == NAME(bits_of_float)(b) && b == b)
            continue;
        if (found < task->room)
            task->open[found] = at + i;
        found++;
        task->zeros -= narrow && y[i] == 0 && values[i] != 0;
    }
    int64_t zeros = 0;
    for (int i = 0; narrow && i < n; i++)
        zeros += ((double)y[i] == 0) & (values[i] != 0) ? 1 : 0;
    task->zeros += zeros;
    return found - before;
}

EXPORT int64_t NAME(gradient)(struct map *task, PRODUCT, const double *errors, const double *cells,
                              const struct moments *of_dx, const struct moments *of_products, ptrdiff_t block,
                              ptrdiff_t most);

/* Compute dx from g, which is a, and z, which is b, round it, and measure it and its products with z: plain.gradient.
 * task->z has room for `most` elements three times; without task->y nothing is rounded. */
int64_t NAME(gradient)(struct map *task, PRODUCT, const double *errors, const double *cells, const struct moments *of_dx,
                       const struct moments *of_products, ptrdiff_t block, ptrdiff_t most)
{
    const ptrdiff_t width = task->width, fields = task->num_x * width, row = task->length * width;
    double g[CHUNK], *dx = task->z, *bound = dx + most, *product = bound + most;
    const double *z = (const double *)b;
    struct NAME(run) run = {0};
    int64_t found = 0;
    (void)b_dtype;
    task->zeros = 0;
    while (NAME(next_run)(task, block, most, &run)) {
        for (ptrdiff_t done = 0, n; done < run.size; done += n) {
            const ptrdiff_t at = run.at + done, end = width == 1 ? row : width, within = at % end;
            const double *own = cells + (width == 1 ? at / row : at / row * width + within), *error = errors ? errors + at : NULL;
            n = end - within < run.size - done ? end - within : run.size - done;
            n = n < CHUNK ? n : CHUNK;
            NAME(widen_run)(a + at * SIZE(a_dtype == F32), n, a_dtype, 0, g);
            if (width == 1)
                NAME(slope_run)(g, z + at, error, n, own, fields, 0, dx + done, bound + done);
            else
                NAME(slope_run)(g, z + at, error, n, own, fields, 1, dx + done, bound + done);
            for (ptrdiff_t i = 0; i < n; i++)
                product[done + i] = dx[done + i] * z[at + i];
        }
        for (ptrdiff_t done = 0; task->y && done < run.size; done += CHUNK) {
            int n = run.size - done < CHUNK ? (int)(run.size - done) : CHUNK;
            found += NAME(enclose)(task, dx + done, bound + done, n, run.at + done, found);
        }
        NAME(measure_run)(of_dx, &run, dx, width, (ptrdiff_t)sizeof(double));
        NAME(measure_run)(of_products, &run, product, width, (ptrdiff_t)sizeof(double));
    }
    return found;
}

/* The product of two sums of two doubles: plain._product_in_two. */
INLINE struct NAME(two) NAME(times)(double a, double a_low, double b, double b_low)
{
    struct NAME(two) found = NAME(two_product)(a, b);
    double low = found.low + (a * b_low + a_low * b), size = __builtin_fabs(found.high);
    int far = (__builtin_fabs(a) > FAR) | (__builtin_fabs(b) > FAR) | (size > FAR);
    low = size < 1 / FAR ? 0.0 : low;
    return (struct NAME(two)){found.high, far ? __builtin_nan("") : low};
}

EXPORT void NAME(multiply_in_two)(const double *a, const double *a_low, const double *b, const double *b_low, ptrdiff_t size,
                                  double *found, double *low);

void NAME(multiply_in_two)(const double *a, const double *a_low, const double *b, const double *b_low, ptrdiff_t size,
                           double *found, double *low)
{
    for (ptrdiff_t i = 0; i < size; i++) {
        struct NAME(two) product = NAME(times)(a[i], a_low[i], b[i], b_low[i]);
        found[i] = product.high;
        low[i] = product.low;
    }
}

/* Two doubles that dx is between, from one row of its cells and their other parts: plain.gradient_in_two. */
INLINE void NAME(between_two)(const double *g, const double *g_low, const double *z, const double *z_low, ptrdiff_t count,
                              const double *own, const ptrdiff_t fields, const ptrdiff_t step, double *bound, double *lower)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        const double *of = own + i * step;
        const double rate = of[0], first = of[fields], second = of[2 * fields];
        const double on_g = of[3 * fields], on_z = of[4 * fields], base = of[5 * fields];
        struct NAME(two) total = NAME(two_sum)(g[i], -first), product, sum;
        double low = total.low + (g_low[i] - of[7 * fields]), limit;
        product = NAME(times)(z[i], z_low[i], second, of[8 * fields]);
        sum = NAME(two_sum)(total.high, -product.high);
        total = NAME(two_sum)(sum.high, sum.low + (low - product.low));
        product = NAME(times)(total.high, total.low, rate, of[6 * fields]);
        limit = ((__builtin_fabs(g[i]) * on_g + __builtin_fabs(z[i]) * on_z) + base) + bound[i];
        limit += ((__builtin_fabs(product.high) < 1 / FAR) & (total.high != 0)) ? 1 / FAR : 0.0;
        lower[i] = (product.high + (product.low - limit)) + 0.0;
        bound[i] = (product.high + (product.low + limit)) + 0.0;
    }
}

EXPORT void NAME(gradient_in_two)(const double *g, const double *g_low, const double *z, const double *z_low, ptrdiff_t num_x,
                                  ptrdiff_t length, ptrdiff_t width, const double *cells, double *bound, double *lower);

/* `cells` has the nine fields of GradientInTwo, each of shape (X, Q). `bound` takes the upper ends. */
void NAME(gradient_in_two)(const double *g, const double *g_low, const double *z, const double *z_low, ptrdiff_t num_x,
                           ptrdiff_t length, ptrdiff_t width, const double *cells, double *bound, double *lower)
{
    const ptrdiff_t fields = num_x * width, rows = width == 1 ? 1 : length, count = width == 1 ? length : width;
    for (ptrdiff_t x = 0; x < num_x; x++)
        for (ptrdiff_t row = 0; row < rows; row++) {
            if (width == 1)
                NAME(between_two)(g, g_low, z, z_low, count, cells + x, fields, 0, bound, lower);
            else
                NAME(between_two)(g, g_low, z, z_low, count, cells + x * width, fields, 1, bound, lower);
            g += count, g_low += count, z += count, z_low += count, bound += count, lower += count;
        }
}

/* Write `n` products from element `at` on to p. */
INLINE void NAME(multiply)(PRODUCT, ptrdiff_t at, int n, double *restrict p)
{
    double q[CHUNK];
    NAME(widen_run)(a + at * SIZE(a_dtype == F32), n, a_dtype, 0, p);
    if (b)
        NAME(widen_run)(b + at * SIZE(b_dtype == F32), n, b_dtype, 0, q);
    for (int i = 0; b && i < n; i++)
        p[i] *= q[i];
}

EXPORT double NAME(largest)(PRODUCT, ptrdiff_t size);

/* Return the largest size of the products; NaN if one of them is: plain.largest. */
double NAME(largest)(PRODUCT, ptrdiff_t size)
{
    double p[CHUNK], lanes[PER];
    vd most = NAME(all)(0);
    vl odd = {0};
    for (ptrdiff_t at = 0; at < size; at += CHUNK) {
        int n = size - at < CHUNK ? (int)(size - at) : CHUNK;
        NAME(multiply)(a, a_dtype, b, b_dtype, at, n, p);
        for (int i = n; i % PER; i++)
            p[i] = 0;
        for (int i = 0; i < n; i += PER) {
            vd value = (vd)((vl)NAME(load)((const char *)(p + i), 0) & INT64_MAX);
            most = NAME(max)(value, most);
            odd |= value != value;
        }
    }
    memcpy(lanes, &most, sizeof lanes);
    double found = 0;
    for (int lane = 0; lane < PER; lane++) {
        found = lanes[lane] > found ? lanes[lane] : found;
        found = odd[lane] ? __builtin_nan("") : found;
    }
    return found;
}

#define STEP (4 * PER) /* elements of four vectors side by side */

/* Take from the sizes p what they have at the level of `unit`, and add it, and the same with their signs, to the sums of
 * each lane: p + unit ends with it, as an integer. The `first` time p has the numbers, and sizes and signs are made. */
INLINE vl NAME(take_level)(double *p, int64_t *sign, int n, double unit, const int first, vu *signed_sums, vu *sizes,
                           vl *negative)
{
    vl left = {0};
    for (int i = 0; i < n; i += STEP)
        for (int k = 0; k < 4; k++) {
            vd size = NAME(load)((const char *)(p + i + k * PER), 0);
            vl minus;
            if (first) {
                minus = (vl)size >> 63;
                size = NAME(size_of)(size);
                *negative -= minus;
                memcpy(sign + i + k * PER, &minus, sizeof minus);
            } else
                memcpy(&minus, sign + i + k * PER, sizeof minus);
            vd raised = size + unit, rest = size - (raised - unit);
            memcpy(p + i + k * PER, &rest, sizeof rest);
            sizes[k] += (vu)raised;
            signed_sums[k] += (vu)raised ^ (vu)minus;
            left |= (vl)rest;
        }
    return left;
}

/* The same of columns, each of which has sums of its own; `base` has the bits of `unit`. */
INLINE vl NAME(take_columns)(double *p, int64_t *sign, int n, double unit, int64_t base, const int first, int64_t *sums,
                             int64_t *sizes)
{
    vl left = {0};
    for (int i = 0; i < n; i += PER) {
        vd size = NAME(load)((const char *)(p + i), 0);
        vl minus, found, both[2];
        if (first) {
            minus = (vl)size >> 63;
            size = NAME(size_of)(size);
            memcpy(sign + i, &minus, sizeof minus);
        } else
            memcpy(&minus, sign + i, sizeof minus);
        vd raised = size + unit, rest = size - (raised - unit);
        memcpy(p + i, &rest, sizeof rest);
        left |= (vl)rest;
        found = (vl)raised - base;
        both[0] = (found ^ minus) - minus;
        both[1] = found;
        if (n - i >= PER) {
            vl had[2];
            memcpy(&had[0], sums + i, sizeof had[0]);
            memcpy(&had[1], sizes + i, sizeof had[1]);
            both[0] += had[0];
            both[1] += had[1];
            memcpy(sums + i, &both[0], sizeof both[0]);
            memcpy(sizes + i, &both[1], sizeof both[1]);
        } else
            for (int lane = 0; lane < n - i; lane++) {
                sums[i + lane] += both[0][lane];
                sizes[i + lane] += both[1][lane];
            }
    }
    return left;
}

EXPORT int64_t NAME(levels)(PRODUCT, ptrdiff_t before, ptrdiff_t own, ptrdiff_t inner, const double *units, ptrdiff_t count,
                            int64_t *sums);

/* Add what products, seen as (before, own, inner), have at each level to sums, of shape (count, 2, own): plain.levels.
 * Returns whether anything is left of them. */
int64_t NAME(levels)(PRODUCT, ptrdiff_t before, ptrdiff_t own, ptrdiff_t inner, const double *units, ptrdiff_t count,
                     int64_t *sums)
{
    double p[CHUNK];
    int64_t sign[CHUNK], left = 0;
    ptrdiff_t size = before * own * inner, row = inner == 1 ? own : inner; /* what is read in one go */
    for (ptrdiff_t at = 0; at < size;) {
        ptrdiff_t within = at % row, place = inner == 1 ? within : at / inner % own;
        int n = row - within < CHUNK ? (int)(row - within) : CHUNK, whole = n + STEP - 1 - (n - 1) % STEP;
        int64_t more = 1, minus = 0;
        NAME(multiply)(a, a_dtype, b, b_dtype, at, n, p);
        for (int i = n; i < whole; i++)
            p[i] = 0;
        for (ptrdiff_t level = 0; more && level < count; level++) {
            int64_t *to = sums + 2 * level * own + place, base;
            vu lanes[2][4] = {{{0}}};
            vl negative = {0}, rest;
            memcpy(&base, units + level, sizeof base);
            if (inner == 1)
                rest = level == 0 ? NAME(take_columns)(p, sign, n, units[level], base, 1, to, to + own)
                                  : NAME(take_columns)(p, sign, n, units[level], base, 0, to, to + own);
            else
                rest = level == 0 ? NAME(take_level)(p, sign, whole, units[level], 1, lanes[0], lanes[1], &negative)
                                  : NAME(take_level)(p, sign, whole, units[level], 0, lanes[0], lanes[1], &negative);
            more = 0;
            for (int lane = 0; lane < PER; lane++) {
                more |= rest[lane];
                minus += negative[lane];
            }
            if (inner == 1)
                continue;
            uint64_t found = 0, sizes = 0; /* sums may be beyond an integer until the base is taken away */
            for (int k = 0; k < 4; k++)
                for (int lane = 0; lane < PER; lane++) {
                    found += lanes[0][k][lane];
                    sizes += lanes[1][k][lane];
                }
            to[0] += (int64_t)(found - (uint64_t)base * ((uint64_t)whole - 2 * (uint64_t)minus) + (uint64_t)minus);
            to[own] += (int64_t)(sizes - (uint64_t)base * (uint64_t)whole);
        }
        left |= more;
        at += n;
    }
    return left != 0;
}

/* --- differences -------------------------------------------------------------------------------------------------- */

/* Two panels that are read together, see PANEL: both hold floats (`narrow`), or both doubles. */
#define PAIR const char *a, ptrdiff_t a_stride, const char *b, ptrdiff_t b_stride, ptrdiff_t full, int rest, int narrow

#define TWO (WIDTH == 64 ? 2 : 1) /* vectors whose sums, extremes and counts fit the registers */

/* What is found in each lane. Rows and ranks are -1 where there is none. */
struct NAME(gaps) {
    double n[LANES], nan[LANES], inf[LANES], outside[LANES];
    double total[LANES], square[LANES], product[LANES], a_square[LANES], b_square[LANES];
    double low[LANES], high[LANES], a_most[LANES], worst[LANES], excess[LANES];
    int64_t rank[LANES], first[LANES];
    int32_t power[LANES], a_power[LANES], b_power[LANES];
};

INLINE void NAME(no_pairs)(struct NAME(gaps) *to)
{
    for (int j = 0; j < LANES; j++) {
        to->n[j] = to->nan[j] = to->inf[j] = to->outside[j] = to->a_most[j] = 0;
        to->total[j] = to->square[j] = to->product[j] = to->a_square[j] = to->b_square[j] = 0;
        to->low[j] = INFINITE;
        to->high[j] = to->excess[j] = -INFINITE;
        to->worst[j] = -1;
        to->rank[j] = to->first[j] = -1;
    }
}

/* Add a pair of finite values, in row `r` of lane `j`. */
INLINE void NAME(add_pair)(double x, double y, ptrdiff_t r, int j, double rtol, double atol, struct NAME(gaps) *to)
{
    double gap = __builtin_fabs(x - y), size = __builtin_fabs(y) * rtol, over = gap - size, most = __builtin_fabs(x);
    to->n[j] += 1;
    to->outside[j] += gap > size + atol ? 1 : 0;
    to->total[j] += gap;
    to->square[j] += gap * gap;
    to->product[j] += x * y;
    to->a_square[j] += x * x;
    to->b_square[j] += y * y;
    to->low[j] = y < to->low[j] ? y : to->low[j];
    to->high[j] = y > to->high[j] ? y : to->high[j];
    to->a_most[j] = most > to->a_most[j] ? most : to->a_most[j];
    to->excess[j] = over > to->excess[j] ? over : to->excess[j];
    to->rank[j] = gap > to->worst[j] ? r : to->rank[j];
    to->worst[j] = gap > to->worst[j] ? gap : to->worst[j];
}

/* Compare all pairs, as if they were finite. */
INLINE void NAME(pass_gaps)(PAIR, double rtol, double atol, struct NAME(gaps) *to)
{
    for (int first = 0; first < LANES; first += TWO * PER) {
        const char *left = a + first * SIZE(narrow), *right = b + first * SIZE(narrow);
        vd total[TWO], square[TWO], product[TWO], a_square[TWO], b_square[TWO];
        vd low[TWO], high[TWO], a_most[TWO], worst[TWO], excess[TWO];
        vl outside[TWO], rank[TWO];
        for (int k = 0; k < TWO; k++) {
            total[k] = square[k] = product[k] = a_square[k] = b_square[k] = a_most[k] = NAME(all)(0);
            low[k] = NAME(all)(INFINITE);
            high[k] = excess[k] = NAME(all)(-INFINITE);
            worst[k] = NAME(all)(-1);
            outside[k] = (vl){0};
            rank[k] = (vl){0} - 1;
        }
        for (ptrdiff_t r = 0; r < full; r++, left += a_stride, right += b_stride)
            for (int k = 0; k < TWO; k++) {
                vd x = NAME(load)(left + k * PER * SIZE(narrow), narrow);
                vd y = NAME(load)(right + k * PER * SIZE(narrow), narrow);
                vd gap = (vd)((vl)(x - y) & INT64_MAX), size = (vd)((vl)y & INT64_MAX) * rtol;
                vl more = gap > worst[k];
                total[k] += gap;
                square[k] += gap * gap;
                product[k] += x * y;
                a_square[k] += x * x;
                b_square[k] += y * y;
                low[k] = NAME(min)(y, low[k]);
                high[k] = NAME(max)(y, high[k]);
                if (!narrow)
                    a_most[k] = NAME(max)((vd)((vl)x & INT64_MAX), a_most[k]);
                excess[k] = NAME(max)(gap - size, excess[k]);
                outside[k] -= gap > size + atol;
                rank[k] = (more & r) | (rank[k] & ~more);
                worst[k] = NAME(max)(gap, worst[k]);
            }
        memcpy(to->total + first, total, sizeof total);
        memcpy(to->square + first, square, sizeof square);
        memcpy(to->product + first, product, sizeof product);
        memcpy(to->a_square + first, a_square, sizeof a_square);
        memcpy(to->b_square + first, b_square, sizeof b_square);
        memcpy(to->low + first, low, sizeof low);
        memcpy(to->high + first, high, sizeof high);
        memcpy(to->a_most + first, a_most, sizeof a_most);
        memcpy(to->worst + first, worst, sizeof worst);
        memcpy(to->excess + first, excess, sizeof excess);
        memcpy(to->rank + first, rank, sizeof rank);
        for (int k = 0; k < TWO; k++)
            for (int j = 0; j < PER; j++)
                to->outside[first + k * PER + j] = (double)outside[k][j];
    }
    for (int j = 0; j < LANES; j++)
        to->n[j] = (double)full;
    for (int j = 0; j < rest; j++) {
        double x = NAME(load_one)(a + full * a_stride + j * SIZE(narrow), narrow);
        double y = NAME(load_one)(b + full * b_stride + j * SIZE(narrow), narrow);
        NAME(add_pair)(x, y, full, j, rtol, atol, to);
    }
}

/* The same where both panels hold the same bits: all differences are 0. */
INLINE void NAME(pass_same)(PAIR, double rtol, double atol, struct NAME(gaps) *to)
{
    double least_size[LANES];
    (void)a, (void)a_stride;
    for (int first = 0; first < LANES; first += FOUR * PER) {
        const char *at = b + first * SIZE(narrow);
        vd square[FOUR], low[FOUR], high[FOUR], least[FOUR];
        for (int k = 0; k < FOUR; k++) {
            square[k] = NAME(all)(0);
            low[k] = least[k] = NAME(all)(INFINITE);
            high[k] = NAME(all)(-INFINITE);
        }
        for (ptrdiff_t r = 0; r < full; r++, at += b_stride)
            for (int k = 0; k < FOUR; k++) {
                vd y = NAME(load)(at + k * PER * SIZE(narrow), narrow);
                square[k] += y * y;
                low[k] = NAME(min)(y, low[k]);
                high[k] = NAME(max)(y, high[k]);
                least[k] = NAME(min)((vd)((vl)y & INT64_MAX), least[k]);
            }
        memcpy(to->b_square + first, square, sizeof square);
        memcpy(to->low + first, low, sizeof low);
        memcpy(to->high + first, high, sizeof high);
        memcpy(least_size + first, least, sizeof least);
    }
    for (int j = 0; j < LANES; j++) {
        double over = 0.0 - least_size[j] * rtol;
        to->n[j] = (double)full;
        to->outside[j] = to->total[j] = to->square[j] = to->worst[j] = 0;
        to->product[j] = to->a_square[j] = to->b_square[j];
        to->a_most[j] = -to->low[j] > to->high[j] ? -to->low[j] : to->high[j];
        to->excess[j] = over == over ? over : -INFINITE;
        to->rank[j] = 0;
    }
    for (int j = 0; j < rest; j++) {
        double y = NAME(load_one)(b + full * b_stride + j * SIZE(narrow), narrow);
        NAME(add_pair)(y, y, full, j, rtol, atol, to);
    }
}

/* Compare the pairs one after the other, where some are not finite, or values have to be scaled. */
INLINE void NAME(count_pairs)(const struct tally *task, PAIR, struct NAME(gaps) *to)
{
    NAME(no_pairs)(to);
    for (ptrdiff_t r = 0; r <= full; r++)
        for (int j = 0; j < (r < full ? LANES : rest); j++) {
            double x = NAME(load_one)(a + r * a_stride + j * SIZE(narrow), narrow);
            double y = NAME(load_one)(b + r * b_stride + j * SIZE(narrow), narrow);
            int missing = (x != x) + (y != y);
            if (NAME(finite)(x) && NAME(finite)(y)) {
                NAME(add_pair)(x, y, r, j, task->rtol, task->atol, to);
                continue;
            }
            if (missing == 1 || (missing && task->nan_differs))
                to->nan[j] += 1;
            else if (!missing && x != y)
                to->inf[j] += 1;
            else
                continue;
            to->first[j] = to->first[j] < 0 ? r : to->first[j];
        }
}

/* Take the sums again, of values over the powers of two of their lanes. */
INLINE void NAME(sum_scaled)(PAIR, struct NAME(gaps) *to)
{
    for (int j = 0; j < LANES; j++)
        to->total[j] = to->square[j] = to->product[j] = to->a_square[j] = to->b_square[j] = 0;
    for (ptrdiff_t r = 0; r <= full; r++)
        for (int j = 0; j < (r < full ? LANES : rest); j++) {
            double x = NAME(load_one)(a + r * a_stride + j * SIZE(narrow), narrow);
            double y = NAME(load_one)(b + r * b_stride + j * SIZE(narrow), narrow);
            int32_t power = to->power[j];
            if (!NAME(finite)(x) || !NAME(finite)(y))
                continue;
            double gap = power > 0 ? __builtin_fabs(NAME(scaled)(x, power) - NAME(scaled)(y, power))
                                   : NAME(scaled)(__builtin_fabs(x - y), power);
            x = NAME(scaled)(x, to->a_power[j]);
            y = NAME(scaled)(y, to->b_power[j]);
            to->total[j] += gap;
            to->square[j] += gap * gap;
            to->product[j] += x * y;
            to->a_square[j] += x * x;
            to->b_square[j] += y * y;
        }
}

/* Put the extremes and the places of all lanes into lane 0; places are then ranks, the rows one after the other. */
INLINE void NAME(join_extremes)(struct NAME(gaps) *to)
{
    int64_t rank = -1, first = -1;
    double worst = -1;
    for (int j = 0; j < LANES; j++) {
        int64_t at = to->rank[j] * LANES + j, mismatch = to->first[j] * LANES + j;
        if (to->rank[j] >= 0 && (to->worst[j] > worst || (to->worst[j] == worst && at < rank))) {
            worst = to->worst[j];
            rank = at;
        }
        first = to->first[j] >= 0 && (first < 0 || mismatch < first) ? mismatch : first;
        to->low[0] = to->low[j] < to->low[0] ? to->low[j] : to->low[0];
        to->high[0] = to->high[j] > to->high[0] ? to->high[j] : to->high[0];
        to->a_most[0] = to->a_most[j] > to->a_most[0] ? to->a_most[j] : to->a_most[0];
        to->excess[0] = to->excess[j] > to->excess[0] ? to->excess[j] : to->excess[0];
    }
    to->worst[0] = worst;
    to->rank[0] = rank;
    to->first[0] = first;
}

/* Return the powers of two by which the values of lane `j` are scaled down. */
INLINE int NAME(powers_of)(struct NAME(gaps) *of, int j)
{
    double worst = of->worst[j], b_most = -of->low[j] > of->high[j] ? -of->low[j] : of->high[j];
    of->power[j] = NAME(power_of)(worst < INFINITE ? worst : 0x1.fffffffffffffp+1023);
    of->a_power[j] = NAME(power_of)(of->a_most[j]);
    of->b_power[j] = NAME(power_of)(b_most);
    return of->power[j] || of->a_power[j] || of->b_power[j];
}

/* Compare two panels: `sets` sets, one in each lane, or with 0 one set in all lanes. The first of them is set `i`. */
INLINE void NAME(compare_panel)(const struct tally *task, PAIR, int same, ptrdiff_t i, int sets)
{
    struct NAME(gaps) found;
    int lanes = sets ? sets : 1, f64 = task->dtype[0] == F64 || task->dtype[1] == F64, odd = 0, scaled = 0;
    if (same)
        NAME(pass_same)(a, a_stride, b, b_stride, full, rest, narrow, task->rtol, task->atol, &found);
    else
        NAME(pass_gaps)(a, a_stride, b, b_stride, full, rest, narrow, task->rtol, task->atol, &found);
    for (int j = 0; j < LANES; j++) {
        found.nan[j] = found.inf[j] = 0;
        found.first[j] = -1;
        odd |= !NAME(finite)(found.total[j]) || !NAME(finite)(found.b_square[j]) || (f64 && NAME(powers_of)(&found, j));
    }
    if (odd)
        NAME(count_pairs)(task, a, a_stride, b, b_stride, full, rest, narrow, &found);
    if (!sets)
        NAME(join_extremes)(&found);
    for (int j = 0; j < LANES; j++) {
        found.power[j] = found.a_power[j] = found.b_power[j] = 0;
        if (odd && f64 && j < lanes)
            scaled |= NAME(powers_of)(&found, j);
    }
    for (int j = 1; scaled && !sets && j < LANES; j++) {
        found.power[j] = found.power[0];
        found.a_power[j] = found.a_power[0];
        found.b_power[j] = found.b_power[0];
    }
    if (scaled)
        NAME(sum_scaled)(a, a_stride, b, b_stride, full, rest, narrow, &found);
    double *sums[] = {found.n,      found.nan,     found.inf,      found.outside, found.total,
                      found.square, found.product, found.a_square, found.b_square};
    for (int k = 0; !sets && k < (int)(sizeof sums / sizeof *sums); k++)
        NAME(halves)(sums[k]);
    for (int j = 0; j < lanes; j++) {
        ptrdiff_t set = i + j;
        task->n[set] = found.n[j];
        task->nan[set] = found.nan[j];
        task->inf[set] = found.inf[j];
        task->outside[set] = found.outside[j];
        task->total[set] = found.total[j];
        task->square[set] = found.square[j];
        task->product[set] = found.product[j];
        task->a_square[set] = found.a_square[j];
        task->b_square[set] = found.b_square[j];
        task->low[set] = found.low[j] + 0.0;
        task->high[set] = found.high[j] + 0.0;
        task->worst[set] = found.worst[j];
        task->excess[set] = found.excess[j] + 0.0;
        task->rank[set] = found.rank[j];
        task->first[set] = found.first[j];
        task->power[set] = found.power[j];
        task->a_power[set] = found.a_power[j];
        task->b_power[set] = found.b_power[j];
    }
}

static void NAME(compare_floats)(const struct tally *task, const char *a, ptrdiff_t a_stride, const char *b,
                                 ptrdiff_t b_stride, ptrdiff_t full, int rest, int same, ptrdiff_t i, int sets)
{
    NAME(compare_panel)(task, a, a_stride, b, b_stride, full, rest, 1, same, i, sets);
}

static void NAME(compare_doubles)(const struct tally *task, const char *a, ptrdiff_t a_stride, const char *b,
                                  ptrdiff_t b_stride, ptrdiff_t full, int rest, int same, ptrdiff_t i, int sets)
{
    NAME(compare_panel)(task, a, a_stride, b, b_stride, full, rest, 0, same, i, sets);
}

/* Return whether two runs hold the same bytes. */
INLINE int NAME(same_bytes)(const char *a, const char *b, ptrdiff_t nbytes)
{
    for (ptrdiff_t at = 0; at < nbytes; at += 256) {
        uint64_t differ = 0, x, y;
        ptrdiff_t stop = nbytes - at < 256 ? nbytes : at + 256, k = at;
        for (; k + 8 <= stop; k += 8) {
            memcpy(&x, a + k, 8);
            memcpy(&y, b + k, 8);
            differ |= x ^ y;
        }
        for (; k < stop; k++)
            differ |= (uint64_t)(a[k] != b[k]);
        if (differ)
            return 0;
    }
    return 1;
}

/* Compare up to 64 sets, which lie `step` bytes apart, one in each lane; with `sets` 0 one set, along memory. */
static void NAME(compare)(const struct tally *task, const char *const from[2], const ptrdiff_t step[2],
                          const ptrdiff_t itemsize[2], ptrdiff_t i, int sets)
{
    const ptrdiff_t rows = task->rows, size = LANES * (ptrdiff_t)sizeof(double), *stride = task->row_stride;
    const int side = step[0] == itemsize[0]; /* whether sets lie side by side */
    int direct[2], same = task->dtype[0] == task->dtype[1] && task->swapped[0] == task->swapped[1];
    const ptrdiff_t runs = !sets ? 1 : side ? rows : sets, run = (sets && side ? sets : rows) * itemsize[0];
    for (ptrdiff_t k = 0; same && k < runs; k++) {
        ptrdiff_t left = side ? k * stride[0] : k * step[0], right = side ? k * stride[1] : k * step[1];
        same = NAME(same_bytes)(from[0] + left, from[1] + right, run);
    }
    for (int s = 0; s < 2; s++)
        direct[s] = !task->swapped[s] && (!sets || (side && sets == LANES));
    const ptrdiff_t full = sets ? rows : rows / LANES;
    const int rest = sets ? 0 : (int)(rows % LANES);
    if (task->dtype[0] == F32 && task->dtype[1] == F32 && direct[0] && direct[1]) {
        NAME(compare_floats)(task, from[0], sets ? stride[0] : size / 2, from[1], sets ? stride[1] : size / 2, full, rest,
                             same, i, sets);
        return;
    }
    const char *panel[2];
    ptrdiff_t apart[2];
    for (int s = 1; s >= same; s--) {
        double *to = task->scratch + s * 256 * LANES;
        if (task->dtype[s] == F64 && direct[s]) {
            panel[s] = from[s];
            apart[s] = sets ? stride[s] : size;
            continue;
        }
        if (!sets)
            NAME(widen)(from[s], rows, task->dtype[s], task->swapped[s], to);
        else {
            NAME(widen_columns)(from[s], stride[s], step[s], itemsize[s], rows, sets, task->dtype[s], task->swapped[s], to);
            NAME(fill_up)(to, rows, sets);
        }
        panel[s] = (const char *)to;
        apart[s] = size;
    }
    if (same) {
        panel[0] = panel[1];
        apart[0] = apart[1];
    }
    NAME(compare_doubles)(task, panel[0], apart[0], panel[1], apart[1], full, rest, same, i, sets);
}

/* See plain.tally; not of integers of which one has 64 bits. */
EXPORT void NAME(tally)(const struct tally *task);

void NAME(tally)(const struct tally *task)
{
    static const ptrdiff_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    const ptrdiff_t itemsize[2] = {sizes[task->dtype[0]], sizes[task->dtype[1]]}, columns = task->columns;
    const int turned = !columns && task->rows < LANES; /* short rows, one in each lane */
    const ptrdiff_t *step = turned ? task->set_stride : itemsize, of = turned ? task->sets : columns;
    for (ptrdiff_t a = 0; a < (turned ? 1 : task->sets); a++)
        for (ptrdiff_t q = 0; q < (of ? of : 1); q += LANES) {
            const char *from[2];
            for (int s = 0; s < 2; s++)
                from[s] = task->values[s] + a * task->set_stride[s] + q * step[s];
            NAME(compare)(task, from, step, itemsize, a * (of ? of : 1) + q, of - q < LANES ? (int)(of - q) : LANES);
        }
}

#undef TWO
#undef PAIR

/* Count how many representable values lie between the elements of each pair of floats; see plain.ulps. Pairs with NaN or
 * an infinity are not counted. `unit` is the lowest bit of an exponent: added to that of NaN, it carries into the sign.
 * Where all distances of a chunk are below FEW they are counted by comparing, else in a table of 4 lanes for each. */
#define COUNT_ULPS(name, type, raw, swap, exponent)                                                                   \
    static void NAME(name)(const char *a, const char *b, ptrdiff_t count, int a_swapped, int b_swapped,              \
                           uint32_t *restrict table, int64_t *restrict counts)                                       \
    {                                                                                                                 \
        const ptrdiff_t size = (ptrdiff_t)sizeof(raw);                                                                \
        const raw top = (raw)((raw)1 << (8 * sizeof(raw) - 1)), unit = (raw)((exponent) & (~(exponent) + 1));        \
        const int sign = 8 * (int)sizeof(raw) - 1;                                                                    \
        int used = 0;                                                                                                 \
        for (ptrdiff_t at = 0; at < count; at += CHUNK) {                                                             \
            const int n = count - at < CHUNK ? (int)(count - at) : CHUNK;                                             \
            const char *from = a + at * size, *other = b + at * size;                                                 \
            raw swapped[2][CHUNK], x, y, differ = 0, odd = 0;                                                         \
            uint32_t apart[CHUNK], most = 0, far = 0;                                                                 \
            for (int i = 0; a_swapped && i < n; i++) {                                                                \
                memcpy(&x, from + i * size, sizeof x);                                                                \
                swapped[0][i] = swap(x);                                                                              \
            }                                                                                                         \
            for (int i = 0; b_swapped && i < n; i++) {                                                                \
                memcpy(&y, other + i * size, sizeof y);                                                               \
                swapped[1][i] = swap(y);                                                                              \
            }                                                                                                         \
            from = a_swapped ? (const char *)swapped[0] : from;                                                       \
            other = b_swapped ? (const char *)swapped[1] : other;                                                     \
            for (int i = 0; i < n; i++) {                                                                             \
                memcpy(&x, from + i * size, sizeof x);                                                                \
                memcpy(&y, other + i * size, sizeof y);                                                               \
                differ = (raw)(differ | (x ^ y));                                                                     \
                odd = (raw)(odd | ((x & (exponent)) + unit) | ((y & (exponent)) + unit));                             \
            }                                                                                                         \
            odd &= top;                                                                                               \
            if (!differ && !odd) {                                                                                    \
                counts[0] += n;                                                                                       \
                continue;                                                                                             \
            }                                                                                                         \
            for (int i = 0; i < n; i++) {                                                                             \
                type left, right; /* ranks of floats in order, as in plain.py */                                      \
                memcpy(&left, from + i * size, sizeof left);                                                          \
                memcpy(&right, other + i * size, sizeof right);                                                       \
                type a_sign = (type)(left >> sign), b_sign = (type)(right >> sign);                                   \
                left = (type)((left ^ (a_sign & (type)(raw)(top - 1))) - a_sign);                                     \
                right = (type)((right ^ (b_sign & (type)(raw)(top - 1))) - b_sign);                                   \
                raw more = (raw)((raw)left - (raw)right), less = (raw)((raw)right - (raw)left);                       \
                raw gap = left > right ? more : less;                                                                 \
                apart[i] = (uint32_t)(gap < ULPS - 1 ? gap : ULPS - 1);                                               \
            }                                                                                                         \
            for (int i = 0; odd && i < n; i++) {                                                                      \
                memcpy(&x, from + i * size, sizeof x);                                                                \
                memcpy(&y, other + i * size, sizeof y);                                                               \
                if ((x & (exponent)) == (exponent) || (y & (exponent)) == (exponent))                                 \
                    apart[i] = ULPS;                                                                                  \
            }                                                                                                         \
            for (int i = 0; i < n; i++)                                                                               \
                most = apart[i] > most ? apart[i] : most;                                                             \
            for (uint32_t step = 0; most < FEW && step <= most; step++) {                                             \
                uint32_t same = 0;                                                                                    \
                for (int i = 0; i < n; i++)                                                                           \
                    same += apart[i] == step ? 1 : 0;                                                                 \
                counts[step] += same;                                                                                 \
            }                                                                                                         \
            used |= most >= FEW;                                                                                      \
            for (int i = 0; most >= FEW && i < n; i++)                                                                \
                if (apart[i] == ULPS - 1) /* all of them, as a rule, or none */                                       \
                    far++;                                                                                            \
                else                                                                                                  \
                    table[4 * apart[i] + (uint32_t)(i & 3)]++;                                                        \
            counts[ULPS - 1] += far;                                                                                  \
        }                                                                                                             \
        for (ptrdiff_t step = 0; used && step < ULPS; step++)                                                         \
            for (int lane = 0; lane < 4; lane++)                                                                      \
                counts[step] += table[4 * step + lane];                                                               \
    }

COUNT_ULPS(ulps_of_halves, int16_t, uint16_t, NAME(swap16), UINT32_C(0x7c00))
COUNT_ULPS(ulps_of_floats, int32_t, uint32_t, NAME(swap32), UINT32_C(0x7f800000))
COUNT_ULPS(ulps_of_doubles, int64_t, uint64_t, NAME(swap64), UINT64_C(0x7ff0000000000000))

#undef COUNT_ULPS

/* The table has 4 lanes for each of ULPS distances, and for pairs that are not counted; `count` is below 2**32. */
EXPORT void NAME(ulps)(const char *a, const char *b, ptrdiff_t count, ptrdiff_t width, ptrdiff_t a_swapped,
                       ptrdiff_t b_swapped, uint32_t *table, int64_t *counts);

void NAME(ulps)(const char *a, const char *b, ptrdiff_t count, ptrdiff_t width, ptrdiff_t a_swapped, ptrdiff_t b_swapped,
                uint32_t *table, int64_t *counts)
{
    if (width == 2)
        NAME(ulps_of_halves)(a, b, count, a_swapped != 0, b_swapped != 0, table, counts);
    else if (width == 4)
        NAME(ulps_of_floats)(a, b, count, a_swapped != 0, b_swapped != 0, table, counts);
    else
        NAME(ulps_of_doubles)(a, b, count, a_swapped != 0, b_swapped != 0, table, counts);
}

/* --- counts ------------------------------------------------------------------------------------------------------- */

/* Elements are counted by their bits, seen as unsigned numbers of `width` bytes, which are `swapped` if their byte order
 * is not that of the processor. They are seen as (num_x, length, columns); cells has the cell of each (x, column). */

static inline uint64_t NAME(bits)(const uint8_t *at, ptrdiff_t width, int swapped)
{
    if (width == 8) {
        uint64_t v;
        memcpy(&v, at, 8);
        return swapped ? __builtin_bswap64(v) : v;
    }
    if (width == 4) {
        uint32_t v;
        memcpy(&v, at, 4);
        return swapped ? __builtin_bswap32(v) : v;
    }
    if (width == 2) {
        uint16_t v;
        memcpy(&v, at, 2);
        return swapped ? __builtin_bswap16(v) : v;
    }
    return *at;
}

/* Add the lanes of each slot, which lie side by side, into the first places of the table. */
static void NAME(fold_lanes)(int64_t *table, ptrdiff_t slots, ptrdiff_t lanes)
{
    for (ptrdiff_t slot = 0; lanes > 1 && slot < slots; slot++) {
        int64_t sum = 0;
        for (ptrdiff_t lane = 0; lane < lanes; lane++)
            sum += table[slot * lanes + lane];
        table[slot] = sum;
    }
}

/* The interval of a number: first[its step], and of those above it as many as the number exceeds. 2^depth - 1 of them
 * are looked at. */
static inline size_t NAME(interval)(uint64_t v, size_t step, const uint32_t *first, const uint64_t *upper, size_t depth)
{
    size_t at = first[step];
    for (size_t half = ((size_t)1 << depth) >> 1; half; half >>= 1)
        at += v > upper[at + half - 1] ? half : 0;
    return at;
}

static inline void NAME(between_loop)(const uint8_t *at, ptrdiff_t count, ptrdiff_t width, int swapped,
                                      const uint32_t *first, const uint64_t *upper, size_t depth, int64_t *table)
{
    const int rest = width > 2 ? (int)(8 * width - 16) : 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        uint64_t v = NAME(bits)(at + i * width, width, swapped);
        table[4 * NAME(interval)(v, (size_t)(v >> rest), first, upper, depth) + (size_t)(i & 3)]++;
    }
}

/* See plain.py. The table has 4 lanes for each interval; upper has two more intervals of the largest number for each. */
EXPORT void NAME(between)(const uint8_t *values, ptrdiff_t count, ptrdiff_t width, ptrdiff_t swapped,
                          const uint32_t *first, const uint64_t *upper, ptrdiff_t intervals, int64_t *table);

void NAME(between)(const uint8_t *values, ptrdiff_t count, ptrdiff_t width, ptrdiff_t swapped, const uint32_t *first,
                   const uint64_t *upper, ptrdiff_t intervals, int64_t *table)
{
    const size_t num_steps = width > 1 ? 1 << 16 : 1 << 8;
    size_t most = 0, depth = 0;
    for (size_t step = 0; step < num_steps; step++) {
        size_t next = step + 1 < num_steps ? first[step + 1] : (size_t)intervals - 1;
        most = next - first[step] > most ? next - first[step] : most;
    }
    while (width > 2 && ((size_t)1 << depth) <= most)
        depth++;
    if (width == 8 && swapped)
        NAME(between_loop)(values, count, 8, 1, first, upper, depth, table);
    else if (width == 8)
        NAME(between_loop)(values, count, 8, 0, first, upper, depth, table);
    else if (width == 4 && swapped)
        NAME(between_loop)(values, count, 4, 1, first, upper, depth, table);
    else if (width == 4 && depth == 1)
        NAME(between_loop)(values, count, 4, 0, first, upper, 1, table);
    else if (width == 4)
        NAME(between_loop)(values, count, 4, 0, first, upper, depth, table);
    else if (width == 2)
        NAME(between_loop)(values, count, 2, swapped != 0, first, upper, 0, table);
    else
        NAME(between_loop)(values, count, 1, 0, first, upper, 0, table);
    NAME(fold_lanes)(table, intervals, 4);
}

/* `step` is the number of bytes of the highest step, which begins each of the elements at `at`: 2, or 1. */
static inline void NAME(steps_loop)(const uint8_t *at, ptrdiff_t width, ptrdiff_t step, int swapped,
                                    const int64_t *cells, ptrdiff_t num_x, ptrdiff_t length, ptrdiff_t columns,
                                    int64_t *table, ptrdiff_t lanes)
{
    const int bits = (int)(8 * step);
    const ptrdiff_t mask = lanes - 1;
    for (ptrdiff_t x = 0; x < num_x; x++, cells += columns)
        if (columns == 1) {
            int64_t *slots = table + (cells[0] << bits) * lanes;
            for (ptrdiff_t i = 0; i < length; i++, at += width)
                slots[(ptrdiff_t)NAME(bits)(at, step, swapped) * lanes + (i & mask)]++;
        } else {
            for (ptrdiff_t row = 0; row < length; row++)
                for (ptrdiff_t q = 0; q < columns; q++, at += width)
                    table[((cells[q] << bits) + (ptrdiff_t)NAME(bits)(at, step, swapped)) * lanes + (q & mask)]++;
        }
}

/* See plain.py. The table has some lanes for each of its slots, a power of two. */
EXPORT void NAME(steps)(const uint8_t *values, ptrdiff_t count, ptrdiff_t width, ptrdiff_t swapped,
                        const int64_t *cells, ptrdiff_t num_x, ptrdiff_t length, ptrdiff_t columns, int64_t *table,
                        ptrdiff_t slots, ptrdiff_t lanes);

void NAME(steps)(const uint8_t *values, ptrdiff_t count, ptrdiff_t width, ptrdiff_t swapped, const int64_t *cells,
                 ptrdiff_t num_x, ptrdiff_t length, ptrdiff_t columns, int64_t *table, ptrdiff_t slots, ptrdiff_t lanes)
{
    const uint8_t *at = values + (width > 2 && !swapped == !BIG_ENDIAN_HERE ? width - 2 : 0);
    (void)count;
    if (width == 1)
        NAME(steps_loop)(at, 1, 1, 0, cells, num_x, length, columns, table, lanes);
    else if (swapped)
        NAME(steps_loop)(at, width, 2, 1, cells, num_x, length, columns, table, lanes);
    else if (columns == 1 && lanes == 4)
        NAME(steps_loop)(at, width, 2, 0, cells, num_x, length, 1, table, 4);
    else
        NAME(steps_loop)(at, width, 2, 0, cells, num_x, length, columns, table, lanes);
    NAME(fold_lanes)(table, slots, lanes);
}

/* Count a run of at most TILE elements, of cell cells[0], or of one cell each if `apart` is 1. Those that begin like a
 * path are gathered first, without a branch. */
static inline void NAME(paths_run)(const uint8_t *at, ptrdiff_t count, ptrdiff_t width, int swapped,
                                   const int64_t *cells, ptrdiff_t apart, const uint8_t *top, const uint64_t *paths,
                                   ptrdiff_t num_paths, int level, int64_t *counts)
{
    uint32_t found[TILE];
    size_t some = 0;
    const int whole = (int)(8 * width), rest = whole - 16 * level;
    for (ptrdiff_t i = 0; i < count; i++) {
        found[some] = (uint32_t)i;
        some += top[(uint64_t)cells[i * apart] << 16 | NAME(bits)(at + i * width, width, swapped) >> (whole - 16)];
    }
    for (size_t k = 0; k < some; k++) {
        ptrdiff_t i = found[k], slot = 0;
        uint64_t v = NAME(bits)(at + i * width, width, swapped);
        uint64_t path = (uint64_t)cells[i * apart] << 16 * level | v >> rest;
        for (ptrdiff_t left = num_paths; left > 1; left -= left / 2)
            slot += paths[slot + left / 2] <= path ? left / 2 : 0;
        if (paths[slot] == path)
            counts[slot << 16 | (ptrdiff_t)(v >> (rest - 16) & 0xffff)]++;
    }
}

static inline void NAME(paths_loop)(const uint8_t *at, ptrdiff_t width, int swapped, const int64_t *cells,
                                    ptrdiff_t num_x, ptrdiff_t length, ptrdiff_t columns, const uint8_t *top,
                                    const uint64_t *paths, ptrdiff_t num_paths, int level, int64_t *counts)
{
    const ptrdiff_t apart = columns > 1, rows = apart ? length : 1, run = apart ? columns : length;
    for (ptrdiff_t x = 0; x < num_x; x++, cells += columns)
        for (ptrdiff_t row = 0; row < rows; row++)
            for (ptrdiff_t start = 0; start < run; start += TILE) {
                ptrdiff_t count = run - start < TILE ? run - start : TILE;
                const int64_t *of = cells + start * apart;
                if (apart)
                    NAME(paths_run)(at, count, width, swapped, of, 1, top, paths, num_paths, level, counts);
                else
                    NAME(paths_run)(at, count, width, swapped, of, 0, top, paths, num_paths, level, counts);
                at += count * width;
            }
}

/* See plain.py. */
EXPORT void NAME(steps_on_paths)(const uint8_t *values, ptrdiff_t count, ptrdiff_t width, ptrdiff_t swapped,
                                 const int64_t *cells, ptrdiff_t num_x, ptrdiff_t length, ptrdiff_t columns,
                                 const uint8_t *top, const uint64_t *paths, ptrdiff_t num_paths, ptrdiff_t level,
                                 int64_t *counts);

void NAME(steps_on_paths)(const uint8_t *values, ptrdiff_t count, ptrdiff_t width, ptrdiff_t swapped,
                          const int64_t *cells, ptrdiff_t num_x, ptrdiff_t length, ptrdiff_t columns,
                          const uint8_t *top, const uint64_t *paths, ptrdiff_t num_paths, ptrdiff_t level,
                          int64_t *counts)
{
    const int at = (int)level;
    (void)count;
    if (width == 8 && swapped)
        NAME(paths_loop)(values, 8, 1, cells, num_x, length, columns, top, paths, num_paths, at, counts);
    else if (width == 8)
        NAME(paths_loop)(values, 8, 0, cells, num_x, length, columns, top, paths, num_paths, at, counts);
    else if (swapped)
        NAME(paths_loop)(values, 4, 1, cells, num_x, length, columns, top, paths, num_paths, at, counts);
    else
        NAME(paths_loop)(values, 4, 0, cells, num_x, length, columns, top, paths, num_paths, at, counts);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

typedef uint8_t NAME(v16) __attribute__((vector_size(16))); /* 32 and 64 bytes are no faster: memory is the limit */

/* Interleave the lower or the upper halves of two vectors, byte by byte. */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (NAME(v16)){__VA_ARGS__})
#endif
#define LOWER(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define UPPER(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

/* Put as many elements of 2, 4 or 8 bytes together as 16 at a time allow; return how many. */
static inline ptrdiff_t NAME(interleave)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width)
{
    ptrdiff_t i = 0;
    for (; i + 16 <= count; i += 16) {
        NAME(v16) planes[8], next[8];
        for (ptrdiff_t k = 0; k < width; k++)
            memcpy(&planes[k], data + k * count + i, 16);
        for (ptrdiff_t apart = width; apart > 1; apart /= 2) {
            for (ptrdiff_t k = 0; k < width / 2; k++) {
                next[2 * k] = LOWER(planes[k], planes[k + width / 2]);
                next[2 * k + 1] = UPPER(planes[k], planes[k + width / 2]);
            }
            for (ptrdiff_t k = 0; k < width; k++)
                planes[k] = next[k];
        }
        for (ptrdiff_t k = 0; k < width; k++)
            memcpy(out + i * width + 16 * k, &planes[k], 16);
    }
    return i;
}

#undef SHUFFLE
#undef LOWER
#undef UPPER

/* Put the planes of a shuffled chunk together: byte k of element i is at data[k * count + i]. */
EXPORT void NAME(unshuffle)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width);

void NAME(unshuffle)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width)
{
    ptrdiff_t done = 0;
    if (width == 8)
        done = NAME(interleave)(data, out, count, 8);
    else if (width == 4)
        done = NAME(interleave)(data, out, count, 4);
    else if (width == 2)
        done = NAME(interleave)(data, out, count, 2);
    for (ptrdiff_t k = 0; k < width; k++)
        for (ptrdiff_t i = done; i < count; i++)
            out[i * width + k] = data[k * count + i];
}

EXPORT void NAME(narrow)(const uint8_t *values, ptrdiff_t count, const uint8_t *codes, uint8_t *out);

/* Write the upper halves of floats, or with `codes` the byte that these have for each upper half: floats.Float.narrow. */
void NAME(narrow)(const uint8_t *values, ptrdiff_t count, const uint8_t *codes, uint8_t *out)
{
    for (ptrdiff_t i = 0; !codes && i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + 4 * i, 4);
        uint16_t upper = (uint16_t)(bits >> 16);
        memcpy(out + 2 * i, &upper, 2);
    }
    for (ptrdiff_t i = 0; codes && i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + 4 * i, 4);
        out[i] = codes[bits >> 16];
    }
}

/* Return a sum modulo 65535 as adding the carries gives it: 0 only if all terms are 0. */
static uint64_t NAME(carried)(uint64_t sum)
{
    return sum ? (sum - 1) % 65535 + 1 : 0;
}

/* See plain.py. The sums are of words as the processor reads them: swapping the bytes of a word multiplies it by 256
 * modulo 65535, so the bytes of the sums are swapped instead. 16 lanes have sums of their own. */
EXPORT void NAME(fletcher32)(const uint8_t *data, ptrdiff_t size, uint32_t *out);

void NAME(fletcher32)(const uint8_t *data, ptrdiff_t size, uint32_t *out)
{
    uint64_t first = 0, second = 0;
    ptrdiff_t at = 0;
    while (size - at >= 32) {
        const ptrdiff_t rows = (size - at) / 32 < 256 ? (size - at) / 32 : 256; /* the sums fit 32 bits */
        uint32_t plain[16] = {0}, weighted[16] = {0};
        for (ptrdiff_t row = 0; row < rows; row++, at += 32)
            for (ptrdiff_t lane = 0; lane < 16; lane++) {
                uint16_t word;
                memcpy(&word, data + at + 2 * lane, 2);
                plain[lane] += word;
                weighted[lane] += plain[lane];
            }
        second += first * (uint64_t)(16 * rows);
        for (uint64_t lane = 0; lane < 16; lane++) {
            first += plain[lane];
            second += 16 * (uint64_t)weighted[lane] - lane * plain[lane];
        }
        first = NAME(carried)(first);
        second = NAME(carried)(second);
    }
    for (; at < size; at += 2) {
        uint16_t word = 0;
        memcpy(&word, data + at, at + 1 < size ? 2 : 1);
        first += word;
        second += first;
    }
    out[0] = (uint32_t)(NAME(carried)(second) << 16 | NAME(carried)(first));
    if (!BIG_ENDIAN_HERE)
        out[0] = (out[0] & 0x00ff00ff) << 8 | (out[0] & 0xff00ff00) >> 8;
}

#endif
