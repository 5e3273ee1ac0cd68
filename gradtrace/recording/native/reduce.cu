/* Reductions of a tensor on its device in one reading of its memory, as reduce.c has them on the CPU.

   stats/device_kernel.py hands this to torch's own runtime compiler. Each block reduces a part, and the last one to end
   joins the parts in their order, so that a result is the same each time. Of C++ and CUDA no header is used. */

enum { LOW, HIGH, TOTAL, SQUARES, BIG, SMALL, NONZERO, NANS, INFS, FIELDS };
enum { THREADS = 256, WIDTH = 16, GROUPS = 28 }; /* at most so many in a block; numbers in a row; 28 * FIELDS < 256 */

struct Half { unsigned short bits; };
struct BFloat16 { unsigned short bits; };

__device__ inline float float_of(unsigned int bits) {
    union { unsigned int bits; float value; } both = {bits};
    return both.value;
}
__device__ inline double value_of(double x) { return x; }
__device__ inline float value_of(float x) { return x; }
__device__ inline float value_of(BFloat16 x) { return float_of((unsigned int)x.bits << 16); }
__device__ inline float value_of(Half x) {
    unsigned int size = (unsigned int)(x.bits & 0x7fff) << 13, sign = (unsigned int)(x.bits & 0x8000) << 16;
    if (size >= 0x7c00u << 13) return float_of(sign | 0x7f800000u | size); /* infinity, or NaN */
    float value = float_of(size) * 5.192296858534828e33f; /* 2 ** 112, between the two exponents' zeros */
    return sign ? -value : value;
}

/* The type in which a few elements are added, and between what their sum of squares is exact enough in it. */
template <typename T> struct Wide {
    typedef float type;
    __device__ static bool is_safe(float squares) { return squares > 1e-24f && squares < 1e30f; }
};
template <> struct Wide<double> {
    typedef double type;
    __device__ static bool is_safe(double squares) { return squares > 1e-280 && squares < 1e280; }
};

__device__ inline void clear(double *row) {
#pragma unroll
    for (int field = 0; field < FIELDS; field++) row[field] = 0;
    row[LOW] = float_of(0x7f800000u);
    row[HIGH] = -row[LOW];
}

/* One element, whatever it is. Squares that leave the range of float64 are kept by themselves, scaled. */
__device__ inline void add_one(double x, double *row) {
    bool is_finite = x - x == 0;
    row[NANS] += x != x;
    row[INFS] += !is_finite && x == x;
    if (is_finite) {
        double size = x < 0 ? -x : x;
        if (size > 1e140) row[BIG] += x * 1e-200 * (x * 1e-200);
        else if (size < 1e-140) row[SMALL] += x * 1e200 * (x * 1e200);
        else row[SQUARES] += x * x;
        row[TOTAL] += x;
        row[NONZERO] += x != 0;
        row[LOW] = x < row[LOW] ? x : row[LOW];
        row[HIGH] = x > row[HIGH] ? x : row[HIGH];
    }
}

/* The elements of one load of 16 bytes: together, unless one of them is special. */
template <typename T> union Pack {
    enum { COUNT = 16 / sizeof(T) };
    uint4 loaded;
    T items[COUNT];
};

/* What a thread has found in its packs: sums in float64, the rest in the type of the elements. */
template <typename W> struct Packs {
    double total, squares;
    W low, high;
    unsigned int nonzero;
};

template <typename T> __device__ inline void add_pack(uint4 loaded, Packs<typename Wide<T>::type> &packs, double *row) {
    Pack<T> pack;
    pack.loaded = loaded;
    typedef typename Wide<T>::type W;
    W total = 0, squares = 0, low = value_of(pack.items[0]), high = low;
    int nonzero = 0;
#pragma unroll
    for (int k = 0; k < Pack<T>::COUNT; k++) {
        W x = value_of(pack.items[k]);
        total += x;
        squares += x * x;
        nonzero += x != 0;
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    if (total - total == 0 && (Wide<T>::is_safe(squares) || !nonzero)) {
        packs.total += total;
        packs.squares += squares;
        packs.nonzero += nonzero;
        packs.low = low < packs.low ? low : packs.low;
        packs.high = high > packs.high ? high : packs.high;
    } else {
#pragma unroll
        for (int k = 0; k < Pack<T>::COUNT; k++) add_one(value_of(pack.items[k]), row);
    }
}

__device__ inline double joined(int field, double x, double y) {
    if (field == LOW) return y < x ? y : x;
    if (field == HIGH) return y > x ? y : x;
    return x + y;
}

__device__ inline double empty(int field) {
    double infinity = float_of(0x7f800000u);
    return field == LOW ? infinity : field == HIGH ? -infinity : 0;
}

/* Join rows of ``width`` numbers in one, in the same order each time: each field of each group of rows has a thread. */
__device__ inline void join_rows(const volatile double *rows, int count, int width, volatile double *row) {
    __shared__ double groups[GROUPS * FIELDS];
    for (int k = threadIdx.x; k < GROUPS * FIELDS; k += blockDim.x) {
        int field = k % FIELDS;
        double x = empty(field);
        for (int at = k / FIELDS; at < count; at += GROUPS) x = joined(field, x, rows[at * width + field]);
        groups[k] = x;
    }
    __syncthreads();
    for (int field = threadIdx.x; field < FIELDS; field += blockDim.x) {
        double x = empty(field);
        for (int group = 0; group < GROUPS; group++) x = joined(field, x, groups[group * FIELDS + field]);
        row[field] = x;
    }
}

/* The row of this thread: of every ``step``-th pack of 16 bytes, and of the elements before and after all packs. */
template <typename T> __device__ inline void reduce_own(const T *data, long long size, double *row) {
    typedef typename Wide<T>::type W;
    long long offset = (unsigned long long)data % 16 / sizeof(T), head = offset ? Pack<T>::COUNT - offset : 0;
    if (head > size) head = size;
    long long count = (size - head) / Pack<T>::COUNT, packed = count * Pack<T>::COUNT;
    long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;
    const uint4 *aligned = (const uint4 *)(data + head);
    W infinity = float_of(0x7f800000u);
    Packs<W> packs = {0, 0, infinity, -infinity, 0};
    long long i = first;
    for (; i + 3 * step < count; i += 4 * step) { /* four loads on their way at once */
        uint4 loaded[4] = {aligned[i], aligned[i + step], aligned[i + 2 * step], aligned[i + 3 * step]};
#pragma unroll
        for (int k = 0; k < 4; k++) add_pack<T>(loaded[k], packs, row);
    }
    for (; i < count; i += step) add_pack<T>(aligned[i], packs, row);
    for (i = first; i < size - packed; i += step) add_one(value_of(data[i < head ? i : i + packed]), row);
    row[TOTAL] += packs.total;
    row[SQUARES] += packs.squares;
    row[NONZERO] += packs.nonzero;
    row[LOW] = packs.low < row[LOW] ? packs.low : row[LOW];
    row[HIGH] = packs.high > row[HIGH] ? packs.high : row[HIGH];
}

/* Reduce ``size`` elements into ``row``. Of ``scratch`` the first word counts the blocks that have ended, and is 0 again
   when all have; a row for each block follows. */
template <typename T> __device__ inline void reduce(const T *data, long long size, double *row, double *scratch) {
    __shared__ double rows[THREADS * FIELDS];
    __shared__ int is_last;
    double own[FIELDS];
    clear(own);
    reduce_own(data, size, own);
#pragma unroll
    for (int field = 0; field < FIELDS; field++) rows[threadIdx.x * FIELDS + field] = own[field];
    __syncthreads();
    if (gridDim.x == 1) {
        join_rows(rows, blockDim.x, FIELDS, row);
        return;
    }
    volatile double *parts = scratch + WIDTH;
    join_rows(rows, blockDim.x, FIELDS, parts + blockIdx.x * WIDTH);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicInc((unsigned int *)scratch, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    join_rows(parts, gridDim.x, WIDTH, row);
}

/* A size is handed over in two halves, as torch passes integers of 32 bits. */
#define KERNEL(NAME, TYPE)                                                                                             \
    extern "C" __global__ void NAME(const TYPE *data, double *rows, int row, int high, int low, double *scratch) {     \
        reduce(data, ((long long)high << 30) + low, rows + (long long)row * WIDTH, scratch);                           \
    }
KERNEL(reduce_float64, double)
KERNEL(reduce_float32, float)
KERNEL(reduce_float16, Half)
KERNEL(reduce_bfloat16, BFloat16)
