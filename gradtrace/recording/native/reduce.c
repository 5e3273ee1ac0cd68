/* All statistics of a tensor in one pass over its memory.

   torch has a kernel for each of them, and each reads the memory again: six passes, of which counting zeros
   is the slowest. Here sixteen lanes are reduced side by side, which compilers turn into vector
   instructions, in blocks short enough for float sums to stay exact enough. A block that is not finite is
   done again with its bad elements masked, one whose sums overflow or underflow in double, one by one. */

#include "fields.h"

#include <math.h>
#include <stdint.h>

#define LANES 16
#define BLOCK 4096 /* elements */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__) && !defined(NO_CLONES)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

static float from_bfloat16(uint16_t bits) {
    union { uint32_t bits; float value; } both = {(uint32_t)bits << 16};
    return both.value;
}

static float from_float(float value) { return value; }
static double from_double(double value) { return value; }

/* SMALL: below this sum of squares some of them may have underflowed. */
#define REDUCE(NAME, TYPE, WIDE, LOAD, SMALL)                                                     \
    static void NAME##_slowly(const TYPE *data, int64_t size, double *out) {                      \
        for (int64_t i = 0; i < size; i++) {                                                      \
            double x = LOAD(data[i]);                                                             \
            if (isnan(x)) { out[NANS] += 1; continue; }                                           \
            if (isinf(x)) { out[INFS] += 1; continue; }                                           \
            out[FINITE] += 1;                                                                     \
            out[TOTAL] += x;                                                                      \
            out[SQUARES] += x * x;                                                                \
            out[ZEROS] += x == 0;                                                                 \
            if (x < out[LOW]) out[LOW] = x;                                                       \
            if (x > out[HIGH]) out[HIGH] = x;                                                     \
        }                                                                                         \
    }                                                                                             \
    CLONES static int NAME##_block(const TYPE *data, int size, double *out) {                     \
        WIDE total[LANES], squares[LANES], low[LANES], high[LANES];                               \
        int32_t zeros[LANES];                                                                     \
        for (int j = 0; j < LANES; j++) {                                                         \
            total[j] = squares[j] = 0;                                                            \
            zeros[j] = 0;                                                                         \
            low[j] = high[j] = LOAD(data[j]);                                                     \
        }                                                                                         \
        for (int i = 0; i < size; i += LANES)                                                     \
            for (int j = 0; j < LANES; j++) {                                                     \
                WIDE x = LOAD(data[i + j]);                                                       \
                total[j] += x;                                                                    \
                squares[j] += x * x;                                                              \
                zeros[j] += x == 0;                                                               \
                low[j] = x < low[j] ? x : low[j];                                                 \
                high[j] = x > high[j] ? x : high[j];                                              \
            }                                                                                     \
        double sum = 0, square = 0, zero = 0, least = low[0], most = high[0];                     \
        for (int j = 0; j < LANES; j++) {                                                         \
            sum += total[j];                                                                      \
            square += squares[j];                                                                 \
            zero += zeros[j];                                                                     \
            least = low[j] < least ? low[j] : least;                                              \
            most = high[j] > most ? high[j] : most;                                               \
        }                                                                                         \
        if (!isfinite(sum) || !isfinite(square) || (square < SMALL && zero < size)) return 0;     \
        out[FINITE] += size;                                                                      \
        out[TOTAL] += sum;                                                                        \
        out[SQUARES] += square;                                                                   \
        out[ZEROS] += zero;                                                                       \
        out[LOW] = least < out[LOW] ? least : out[LOW];                                           \
        out[HIGH] = most > out[HIGH] ? most : out[HIGH];                                          \
        return 1;                                                                                 \
    }                                                                                             \
    CLONES static int NAME##_masked(const TYPE *data, int size, double *out) {                    \
        WIDE total[LANES], squares[LANES], low[LANES], high[LANES];                               \
        int32_t zeros[LANES], finite[LANES], nans[LANES];                                         \
        for (int j = 0; j < LANES; j++) {                                                         \
            total[j] = squares[j] = 0;                                                            \
            zeros[j] = finite[j] = nans[j] = 0;                                                   \
            low[j] = INFINITY;                                                                    \
            high[j] = -INFINITY;                                                                  \
        }                                                                                         \
        for (int i = 0; i < size; i += LANES)                                                     \
            for (int j = 0; j < LANES; j++) {                                                     \
                WIDE x = LOAD(data[i + j]);                                                       \
                int32_t is = x - x == 0;                                                          \
                WIDE y = is ? x : 0;                                                              \
                finite[j] += is;                                                                  \
                nans[j] += x != x;                                                                \
                zeros[j] += x == 0;                                                               \
                total[j] += y;                                                                    \
                squares[j] += y * y;                                                              \
                low[j] = is && x < low[j] ? x : low[j];                                           \
                high[j] = is && x > high[j] ? x : high[j];                                        \
            }                                                                                     \
        double sum = 0, square = 0, zero = 0, known = 0, nan = 0, least = low[0], most = high[0]; \
        for (int j = 0; j < LANES; j++) {                                                         \
            sum += total[j];                                                                      \
            square += squares[j];                                                                 \
            zero += zeros[j];                                                                     \
            known += finite[j];                                                                   \
            nan += nans[j];                                                                       \
            least = low[j] < least ? low[j] : least;                                              \
            most = high[j] > most ? high[j] : most;                                               \
        }                                                                                         \
        if (!isfinite(sum) || !isfinite(square) || (square < SMALL && zero < known)) return 0;    \
        out[FINITE] += known;                                                                     \
        out[TOTAL] += sum;                                                                        \
        out[SQUARES] += square;                                                                   \
        out[ZEROS] += zero;                                                                       \
        out[NANS] += nan;                                                                         \
        out[INFS] += size - known - nan;                                                          \
        out[LOW] = least < out[LOW] ? least : out[LOW];                                           \
        out[HIGH] = most > out[HIGH] ? most : out[HIGH];                                          \
        return 1;                                                                                 \
    }                                                                                             \
    void NAME(const TYPE *data, int64_t size, double *out) {                                      \
        int64_t i = 0;                                                                            \
        while (size - i >= LANES) {                                                               \
            int some = size - i < BLOCK ? (int)(size - i) / LANES * LANES : BLOCK;                \
            if (!NAME##_block(data + i, some, out) && !NAME##_masked(data + i, some, out))        \
                NAME##_slowly(data + i, some, out);                                               \
            i += some;                                                                            \
        }                                                                                         \
        NAME##_slowly(data + i, size - i, out);                                                   \
    }

REDUCE(reduce_float32, float, float, from_float, 1e-24)
REDUCE(reduce_float64, double, double, from_double, 1e-290)
REDUCE(reduce_bfloat16, uint16_t, float, from_bfloat16, 1e-24)
