/* The loops of plain.py in C: the same bits, on every processor.
 *
 * plain.py is the specification. What both must keep to:
 *   - A sum runs over 64 lanes, from the first row to the last, and then over the lanes by halves; or first to last.
 *   - A product is rounded before it is added: no fused multiply-add, no reordering. The flags in build.py say so.
 *   - Only sqrt is taken from libm, and only memcpy from libc.
 *
 * This file includes itself once for each instruction set. What is compiled for one is called a body; its functions
 * end in the name of the body, as in unshuffle_avx2. native.py looks them up by that name.
 */

#ifndef BODY /* the outer pass: what all bodies share */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 64
#define EXPORT __attribute__((visibility("default")))

#define PASTE_(name, body) name##_##body
#define PASTE(name, body) PASTE_(name, body)
#define NAME(name) PASTE(name, BODY)

/* Return whether this processor can run a body: 0 is the baseline, 1 is avx2, 2 is avx512. */
EXPORT int supports(int body);

EXPORT int supports(int body)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (body == 1)
        return __builtin_cpu_supports("avx2") != 0;
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
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
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

/* --- moments ------------------------------------------------------------------------------------------------------ */

/* --- the map ------------------------------------------------------------------------------------------------------ */

/* --- differences -------------------------------------------------------------------------------------------------- */

/* --- counts ------------------------------------------------------------------------------------------------------- */

/* --- bytes -------------------------------------------------------------------------------------------------------- */

/* Put the planes of a shuffled chunk together: byte k of element i is at data[k * count + i]. */
EXPORT void NAME(unshuffle)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width);

void NAME(unshuffle)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width)
{
    for (ptrdiff_t k = 0; k < width; k++)
        for (ptrdiff_t i = 0; i < count; i++)
            out[i * width + k] = data[k * count + i];
}

#endif
