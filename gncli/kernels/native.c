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
#define TILE 4096 /* elements that are worked on at a time */
#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
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

/* Put the planes of a shuffled chunk together: byte k of element i is at data[k * count + i]. */
EXPORT void NAME(unshuffle)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width);

void NAME(unshuffle)(const uint8_t *data, uint8_t *out, ptrdiff_t count, ptrdiff_t width)
{
    for (ptrdiff_t k = 0; k < width; k++)
        for (ptrdiff_t i = 0; i < count; i++)
            out[i * width + k] = data[k * count + i];
}

#endif
