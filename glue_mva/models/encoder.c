/* The layers of a BERT-like encoder over packed sequences, less their matrix products: attention, dropout + residual +
 * normalization, and GELU, each forward and backward.
 *
 * Activations are float, or bfloat16 where compiled with -DBF16; all arithmetic is float. Compiled and called by
 * encoder.py. Work is cut into the same pieces for any number of threads, so the result does not depend on it. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16 /* floats that are summed side by side; lengths are filled up to a multiple of it */
#define ROWS 6   /* rows of a tile of a product */
#define BLOCK 64 /* queries whose scores are held at a time */
#define PIECE 32 /* rows of a piece of element-wise work */
#define PADDED(n) (((n) + LANES - 1) / LANES * LANES)

/* Floats of a register: longer vectors would be split, and a tile's sums no longer fit into the registers. */
#if defined(__AVX512F__)
#define REGISTER 16
#elif defined(__AVX__)
#define REGISTER 8
#else
#define REGISTER 4
#endif

typedef float Vector __attribute__((vector_size(4 * REGISTER)));

#ifdef BF16
typedef uint16_t act;
static inline float widen(act x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}
static inline act narrow(float x) { /* to nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (act)(x != x ? 0x7fc0 : rounded);
}
#else
typedef float act;
static inline float widen(act x) { return x; }
static inline act narrow(float x) { return x; }
#endif

/* ------------------------------------------------------------------------------------------------------- threads */

typedef void (*Runner)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel of the runtime that torch uses */
typedef struct {
    Runner runner; /* NULL: one thread */
    int64_t threads;
} Threads;

typedef struct {
    void (*work)(const void *args, int64_t index);
    const void *args;
    int64_t count, next;
} Job;

static void drain(void *pointer) {
    Job *job = pointer;
    int64_t index;
    while ((index = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->count) job->work(job->args, index);
}

static void spread(const Threads *t, void (*work)(const void *, int64_t), const void *args, int64_t count) {
    Job job = {work, args, count, 0};
    const int64_t threads = t->threads < count ? t->threads : count;
    if (t->runner && threads > 1)
        t->runner(drain, &job, (unsigned)threads, 0);
    else
        drain(&job);
}

/* ------------------------------------------------------------------------------------------------------- dropout */

typedef struct {
    uint64_t seed;
    double p;
} Dropout;

static inline uint32_t row_key(const Dropout *d, uint64_t row) { /* splitmix64 */
    uint64_t z = d->seed + (row + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z ^ (z >> 31));
}

static inline uint32_t draw(uint32_t key, uint32_t column) { /* a bijective mix of 32 bits (C. Wellons, lowbias32) */
    uint32_t h = key + column * 0x9e3779b9u;
    h = (h ^ (h >> 16)) * 0x21f0aaadu;
    h = (h ^ (h >> 15)) * 0x735a2d97u;
    return h ^ (h >> 15);
}

static inline uint32_t threshold(const Dropout *d) { return (uint32_t)(d->p * 4294967296.0); }

/* ----------------------------------------------------------------------------------------------------- functions */

static inline float exponential(float x) { /* relative error below 2e-7; 0 below -87 */
    const float bounded = x < -87.0f ? -87.0f : x;
    const float shifted = bounded * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to an integer */
    const float n = shifted - 12582912.0f;
    const float r = (bounded - n * 0.693145752f) - n * 1.42860677e-6f;
    float y = 1.98412698e-4f;
    y = y * r + 1.38888889e-3f;
    y = y * r + 8.33333333e-3f;
    y = y * r + 4.16666667e-2f;
    y = y * r + 1.66666667e-1f;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;
    float power;
    memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : y * power;
}

static inline float normal_cdf(float x, float density) { /* Abramowitz and Stegun 7.1.26; density: exp(-x^2 / 2) */
    const float z = fabsf(x) * 0.707106781f;
    const float t = 1.0f / (1.0f + 0.3275911f * z);
    float y = 1.061405429f;
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    const float tail = 0.5f * y * t * density;
    return x < 0.0f ? tail : 1.0f - tail;
}

static float sum(const float *x, int64_t n) {
    float lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l];
    for (int l = 0; i + l < n; l++) lanes[l] += x[i + l];
    float total = 0;
    for (int l = 0; l < LANES; l++) total += lanes[l];
    return total;
}

static float dot(const float *x, const float *y, int64_t n) {
    float lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l] * y[i + l];
    for (int l = 0; i + l < n; l++) lanes[l] += x[i + l] * y[i + l];
    float total = 0;
    for (int l = 0; l < LANES; l++) total += lanes[l];
    return total;
}

/* ------------------------------------------------------------------------------------------------------ products */

static inline Vector load(const float *p) {
    Vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline __attribute__((always_inline)) void tile(const int rows, const int width, const int add, int64_t k,
                                                       const float *a, int64_t ai, int64_t ak, const float *b,
                                                       int64_t ldb, float *c, int64_t ldc) {
    Vector acc[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int w = 0; w < width; w++) acc[r][w] = add ? load(c + r * ldc + w * REGISTER) : (Vector){0};
    for (int64_t q = 0; q < k; q++) {
        Vector right[2];
        for (int w = 0; w < width; w++) right[w] = load(b + q * ldb + w * REGISTER);
        for (int r = 0; r < rows; r++)
            for (int w = 0; w < width; w++) acc[r][w] += a[r * ai + q * ak] * right[w];
    }
    for (int r = 0; r < rows; r++)
        for (int w = 0; w < width; w++) memcpy(c + r * ldc + w * REGISTER, &acc[r][w], sizeof(Vector));
}

/* c (m, n) = a (m, k) b (k, n), or added to it; n is a multiple of REGISTER, a has any strides. */
static void product(const int add, int64_t m, int64_t n, int64_t k, const float *a, int64_t ai, int64_t ak,
                    const float *b, int64_t ldb, float *c, int64_t ldc) {
    for (int64_t j = 0; j < n;) {
        const int width = n - j >= 2 * REGISTER ? 2 : 1;
        for (int64_t i = 0; i < m; i += ROWS) {
            const float *left = a + i * ai;
            float *target = c + i * ldc + j;
#define TILE(rows)                                                                                        \
    case rows:                                                                                            \
        if (width == 2 && add) tile(rows, 2, 1, k, left, ai, ak, b + j, ldb, target, ldc);                \
        else if (width == 2) tile(rows, 2, 0, k, left, ai, ak, b + j, ldb, target, ldc);                  \
        else if (add) tile(rows, 1, 1, k, left, ai, ak, b + j, ldb, target, ldc);                         \
        else tile(rows, 1, 0, k, left, ai, ak, b + j, ldb, target, ldc);                                  \
        break;
            switch (m - i < ROWS ? m - i : ROWS) { TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) }
        }
        j += width * REGISTER;
    }
}

/* ----------------------------------------------------------------------------------------------------- attention */

typedef struct {
    const act *query, *key, *value; /* rows of `heads` x `size` values */
    act *out;                       /* forward: result; backward: gradient of it, read */
    act *grad_query, *grad_key, *grad_value;
    float *log_sum;                /* (queries, heads): log of the sum of the exponentials of the scores */
    const int32_t *starts, *sizes; /* (sequences,) first token and number of tokens */
    int64_t query_stride, key_stride, grad_query_stride, grad_key_stride, out_stride; /* values from row to row */
    int64_t sequences, heads, size, first_only; /* first_only: one query per sequence, in a row of its own */
    double scale;
    Dropout dropout;
} Attention;

/* rows (n, size) -> float (n, PADDED(size)), filled up with zeros */
static void gather(const act *x, int64_t stride, int64_t n, int64_t size, float factor, float *y) {
    const int64_t padded = PADDED(size);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t d = 0; d < size; d++) y[i * padded + d] = widen(x[i * stride + d]) * factor;
        for (int64_t d = size; d < padded; d++) y[i * padded + d] = 0;
    }
}

static void scatter(const float *x, int64_t stride, int64_t n, int64_t size, float factor, act *y) {
    const int64_t padded = PADDED(size);
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < size; d++) y[i * stride + d] = narrow(x[i * padded + d] * factor);
}

/* (n, PADDED(size)) -> (size, PADDED(n)), filled up with zeros */
static void transpose(const float *x, int64_t n, int64_t size, float *y) {
    const int64_t padded = PADDED(size), length = PADDED(n);
    for (int64_t d = 0; d < size; d++) {
        for (int64_t i = 0; i < n; i++) y[d * length + i] = x[i * padded + d];
        for (int64_t i = n; i < length; i++) y[d * length + i] = 0;
    }
}

/* Scores of one query -> weights, in place, zero for the filling; returns the log of the sum of exponentials. */
static float softmax(float *row, int64_t n, int64_t length) {
    float lanes[LANES], largest = -INFINITY, total;
    for (int64_t j = n; j < length; j++) row[j] = -INFINITY;
    for (int l = 0; l < LANES; l++) lanes[l] = row[l];
    for (int64_t j = LANES; j < length; j += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = row[j + l] > lanes[l] ? row[j + l] : lanes[l];
    for (int l = 0; l < LANES; l++) largest = lanes[l] > largest ? lanes[l] : largest;
    for (int64_t j = 0; j < length; j++) row[j] = exponential(row[j] - largest);
    total = sum(row, length);
    const float factor = 1.0f / total;
    for (int64_t j = 0; j < length; j++) row[j] *= factor;
    return largest + logf(total);
}

static void attend(const void *pointer, int64_t index) {
    const Attention *x = pointer;
    const int64_t s = index / x->heads, h = index % x->heads, size = x->size, padded = PADDED(size);
    const int64_t n = x->sizes[s], length = PADDED(n), start = x->starts[s];
    const int64_t first = x->first_only ? s : start, queries = x->first_only ? 1 : n;
    const int64_t block = queries < BLOCK ? queries : BLOCK;
    const uint32_t below = threshold(&x->dropout);
    const float keep = (float)(1.0 / (1.0 - x->dropout.p));
    float *memory = aligned_alloc(64, 4 * (padded * (2 * n + 2 * block) + length * (size + block)));
    float *key = memory, *value = key + n * padded, *query = value + n * padded, *out = query + block * padded;
    float *key_t = out + block * padded, *weights = key_t + size * length;

    gather(x->key + start * x->key_stride + h * size, x->key_stride, n, size, 1, key);
    gather(x->value + start * x->key_stride + h * size, x->key_stride, n, size, 1, value);
    transpose(key, n, size, key_t);
    for (int64_t i = 0; i < queries; i += block) {
        const int64_t rows = queries - i < block ? queries - i : block, at = first + i;
        gather(x->query + at * x->query_stride + h * size, x->query_stride, rows, size, (float)x->scale, query);
        product(0, rows, length, size, query, padded, 1, key_t, length, weights, length);
        for (int64_t r = 0; r < rows; r++) {
            float *row = weights + r * length;
            x->log_sum[(at + r) * x->heads + h] = softmax(row, n, length);
            if (below) {
                const uint32_t seed = row_key(&x->dropout, (uint64_t)((at + r) * x->heads + h));
                for (int64_t j = 0; j < length; j++) row[j] = draw(seed, (uint32_t)j) < below ? 0.0f : row[j] * keep;
            }
        }
        product(0, rows, padded, n, weights, length, 1, value, padded, out, padded);
        scatter(out, x->out_stride, rows, size, 1, x->out + at * x->out_stride + h * size);
    }
    free(memory);
}

static void attend_backward(const void *pointer, int64_t index) {
    const Attention *x = pointer;
    const int64_t s = index / x->heads, h = index % x->heads, size = x->size, padded = PADDED(size);
    const int64_t n = x->sizes[s], length = PADDED(n), start = x->starts[s];
    const int64_t first = x->first_only ? s : start, queries = x->first_only ? 1 : n;
    const int64_t block = queries < BLOCK ? queries : BLOCK;
    const uint32_t below = threshold(&x->dropout);
    const float keep = (float)(1.0 / (1.0 - x->dropout.p));
    float *memory = aligned_alloc(64, 4 * (padded * (4 * n + 3 * block) + length * (2 * size + 3 * block)));
    float *key = memory, *value = key + n * padded, *grad_key = value + n * padded, *grad_value = grad_key + n * padded;
    float *query = grad_value + n * padded, *grad = query + block * padded, *grad_query = grad + block * padded;
    float *key_t = grad_query + block * padded, *value_t = key_t + size * length, *weights = value_t + size * length;
    float *dropped = weights + block * length, *grad_scores = dropped + block * length;

    gather(x->key + start * x->key_stride + h * size, x->key_stride, n, size, 1, key);
    gather(x->value + start * x->key_stride + h * size, x->key_stride, n, size, 1, value);
    transpose(key, n, size, key_t);
    transpose(value, n, size, value_t);
    for (int64_t i = 0; i < queries; i += block) {
        const int64_t rows = queries - i < block ? queries - i : block, at = first + i;
        gather(x->query + at * x->query_stride + h * size, x->query_stride, rows, size, (float)x->scale, query);
        gather(x->out + at * x->out_stride + h * size, x->out_stride, rows, size, 1, grad);
        product(0, rows, length, size, query, padded, 1, key_t, length, weights, length);
        product(0, rows, length, size, grad, padded, 1, value_t, length, grad_scores, length);
        for (int64_t r = 0; r < rows; r++) {
            float *w = weights + r * length, *v = dropped + r * length, *g = grad_scores + r * length;
            const float log_sum = x->log_sum[(at + r) * x->heads + h];
            for (int64_t j = 0; j < length; j++) v[j] = w[j] = exponential(w[j] - log_sum);
            for (int64_t j = n; j < length; j++) v[j] = w[j] = 0;
            if (below) {
                const uint32_t seed = row_key(&x->dropout, (uint64_t)((at + r) * x->heads + h));
                for (int64_t j = 0; j < length; j++) {
                    const float factor = draw(seed, (uint32_t)j) < below ? 0.0f : keep;
                    v[j] *= factor;
                    g[j] *= factor;
                }
            }
            const float mean = dot(w, g, length);
            for (int64_t j = 0; j < length; j++) g[j] = w[j] * (g[j] - mean);
        }
        product(i > 0, n, padded, rows, dropped, 1, length, grad, padded, grad_value, padded);
        product(i > 0, n, padded, rows, grad_scores, 1, length, query, padded, grad_key, padded);
        product(0, rows, padded, n, grad_scores, length, 1, key, padded, grad_query, padded);
        scatter(grad_query, x->grad_query_stride, rows, size, (float)x->scale,
                x->grad_query + at * x->grad_query_stride + h * size);
    }
    scatter(grad_key, x->grad_key_stride, n, size, 1, x->grad_key + start * x->grad_key_stride + h * size);
    scatter(grad_value, x->grad_key_stride, n, size, 1, x->grad_value + start * x->grad_key_stride + h * size);
    free(memory);
}

void attention(const Threads *t, const Attention *x, int backward) {
    spread(t, backward ? attend_backward : attend, x, x->sequences * x->heads);
}

/* ------------------------------------------------------------------------------------ residual and normalization */

typedef struct {
    const act *branch; /* (rows, size): what is dropped out and added to the residual */
    const float *residual;
    const float *gain, *shift; /* (size,) of the normalization */
    float *normalized;         /* (rows, size) before gain and shift */
    float *inverse;            /* (rows,) 1 / standard deviation */
    float *out;
    act *out_act;                 /* the same, as activations */
    const float *grad_out;        /* backward: gradient of out */
    const act *grad_out_act;      /* ... and of out_act; their sum counts. NULL: none */
    float *grad_residual;
    act *grad_branch;
    float *partial; /* (pieces, 3, size): sums over rows for gain, shift and branch */
    int64_t rows, size;
    double eps;
    Dropout dropout;
} Norm;

static void normalize(const void *pointer, int64_t piece) {
    const Norm *x = pointer;
    const int64_t n = x->size, stop = (piece + 1) * PIECE < x->rows ? (piece + 1) * PIECE : x->rows;
    const uint32_t below = threshold(&x->dropout);
    const float keep = (float)(1.0 / (1.0 - x->dropout.p)), *restrict gain = x->gain, *restrict shift = x->shift;
    for (int64_t i = piece * PIECE; i < stop; i++) {
        const uint32_t seed = row_key(&x->dropout, (uint64_t)i);
        const act *restrict branch = x->branch + i * n;
        const float *restrict residual = x->residual + i * n;
        float *restrict z = x->normalized + i * n, *restrict out = x->out + i * n;
        act *restrict out_act = x->out_act + i * n;
        if (below)
            for (int64_t j = 0; j < n; j++)
                z[j] = residual[j] + (draw(seed, (uint32_t)j) < below ? 0.0f : widen(branch[j]) * keep);
        else
            for (int64_t j = 0; j < n; j++) z[j] = residual[j] + widen(branch[j]);
        const float mean = sum(z, n) / (float)n;
        for (int64_t j = 0; j < n; j++) z[j] -= mean;
        const float inverse = 1.0f / sqrtf(dot(z, z, n) / (float)n + (float)x->eps);
        x->inverse[i] = inverse;
        for (int64_t j = 0; j < n; j++) {
            z[j] *= inverse;
            const float y = z[j] * gain[j] + shift[j];
            out[j] = y;
            out_act[j] = narrow(y);
        }
    }
}

static void normalize_backward(const void *pointer, int64_t piece) {
    const Norm *x = pointer;
    const int64_t n = x->size, stop = (piece + 1) * PIECE < x->rows ? (piece + 1) * PIECE : x->rows;
    const uint32_t below = threshold(&x->dropout);
    const float keep = (float)(1.0 / (1.0 - x->dropout.p)), *restrict gain = x->gain;
    float *restrict for_gain = x->partial + piece * 3 * n, *restrict for_shift = for_gain + n;
    float *restrict for_branch = for_shift + n;
    memset(for_gain, 0, (size_t)(3 * n) * 4);
    for (int64_t i = piece * PIECE; i < stop; i++) {
        const uint32_t seed = row_key(&x->dropout, (uint64_t)i);
        const float *restrict z = x->normalized + i * n, *restrict grad = x->grad_out + i * n;
        const act *restrict grad_act = x->grad_out_act ? x->grad_out_act + i * n : 0;
        float *restrict residual = x->grad_residual + i * n;
        act *restrict branch = x->grad_branch + i * n;
        if (grad_act)
            for (int64_t j = 0; j < n; j++) residual[j] = grad[j] + widen(grad_act[j]);
        else
            for (int64_t j = 0; j < n; j++) residual[j] = grad[j];
        for (int64_t j = 0; j < n; j++) {
            for_gain[j] += residual[j] * z[j];
            for_shift[j] += residual[j];
            residual[j] *= gain[j];
        }
        const float mean = sum(residual, n) / (float)n, slope = dot(residual, z, n) / (float)n;
        const float inverse = x->inverse[i];
        for (int64_t j = 0; j < n; j++) residual[j] = (residual[j] - mean - z[j] * slope) * inverse;
        for (int64_t j = 0; j < n; j++) {
            const float g = below && draw(seed, (uint32_t)j) < below ? 0.0f : residual[j] * keep;
            for_branch[j] += g;
            branch[j] = narrow(g);
        }
    }
}

static void add_pieces(const float *partial, int64_t pieces, int64_t n, float *total) {
    memset(total, 0, (size_t)n * 4);
    for (int64_t p = 0; p < pieces; p++)
        for (int64_t j = 0; j < n; j++) total[j] += partial[p * n + j];
}

/* sums (3, size): gradients of gain, shift and the branch's bias; backward only. */
void norm(const Threads *t, const Norm *x, float *sums, int backward) {
    const int64_t pieces = (x->rows + PIECE - 1) / PIECE;
    spread(t, backward ? normalize_backward : normalize, x, pieces);
    if (backward) add_pieces(x->partial, pieces, 3 * x->size, sums);
}

/* ---------------------------------------------------------------------------------------------------------- GELU */

typedef struct {
    const act *in;
    act *out;       /* forward: result; backward: gradient of it, replaced by the gradient of in */
    float *partial; /* (pieces, size): sums over rows of the gradient of in */
    int64_t rows, size;
} Gelu;

static void gelu_piece(const void *pointer, int64_t piece) {
    const Gelu *x = pointer;
    const int64_t stop = (piece + 1) * PIECE < x->rows ? (piece + 1) * PIECE : x->rows;
    const act *restrict in = x->in;
    act *restrict out = x->out;
    for (int64_t i = piece * PIECE * x->size; i < stop * x->size; i++) {
        const float v = widen(in[i]);
        out[i] = narrow(v * normal_cdf(v, exponential(-0.5f * v * v)));
    }
}

static void gelu_piece_backward(const void *pointer, int64_t piece) {
    const Gelu *x = pointer;
    const int64_t n = x->size, stop = (piece + 1) * PIECE < x->rows ? (piece + 1) * PIECE : x->rows;
    float *restrict for_bias = x->partial + piece * n;
    memset(for_bias, 0, (size_t)n * 4);
    for (int64_t i = piece * PIECE; i < stop; i++) {
        const act *restrict in = x->in + i * n;
        act *restrict out = x->out + i * n;
        for (int64_t j = 0; j < n; j++) {
            const float v = widen(in[j]), density = exponential(-0.5f * v * v);
            const float g = widen(out[j]) * (normal_cdf(v, density) + v * density * 0.398942280f);
            for_bias[j] += g;
            out[j] = narrow(g);
        }
    }
}

/* sum (size,): gradient of the bias added before; backward only. */
void gelu(const Threads *t, const Gelu *x, float *total, int backward) {
    const int64_t pieces = (x->rows + PIECE - 1) / PIECE;
    spread(t, backward ? gelu_piece_backward : gelu_piece, x, pieces);
    if (backward) add_pieces(x->partial, pieces, x->size, total);
}
