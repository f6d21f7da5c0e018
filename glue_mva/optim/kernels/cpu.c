/* One pass over memory for a whole step of MAdam, LaMAdam or LaProp in float32.
 *
 * The operations and their order are those of MAdam.update, LaMAdam.update and LaProp.update, and each is rounded on its
 * own (compile with -ffp-contract=off), so the result has the same bits as the for-loop and foreach implementations.
 * Compiled and called by cpu.py. */
#include <math.h>
#include <stdint.h>

#define TINY 0x1p-126f /* maxva.TINY */

/* No two of the tensors overlap. Compilers lose `restrict` when they inline, and would not vectorise. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* TENSOR_FIELDS and SCALAR_FIELDS are the fields of state.Tensors and state.Scalars, in their order: cpu.py hands them
 * over when it compiles. What a tensor is: see there. NULL stands for None. */
typedef struct {
    int64_t numel;
    float *restrict TENSOR_FIELDS;
} Tensors;

typedef struct {
    double SCALAR_FIELDS;
} Scalars;

typedef struct {
    double one_minus_beta1, one_minus_beta2, eps, sign; /* sign of the gradient: -1 to maximize */
} Constants;

/* The comparisons are written so that NaN passes through, as in torch.clamp and torch.maximum. */
static inline float at_least(float x, float low) { return x < low ? low : x; }
static inline float at_most(float x, float high) { return x > high ? high : x; }
static inline float maximum(float old, float new) { return old >= new ? old : (old != old ? old : new); }

/* What an update consists of: bits of its `kind`, which is a constant wherever `update` is inlined. */
enum { NORMALISE_FIRST = 1, AMSGRAD = 2, WEIGHTED = 4, MAXVA = 8 };

static inline __attribute__((always_inline)) void update(const Tensors *x, const Scalars *by, const Constants *c,
                                                         int64_t start, int64_t stop, const int kind) {
    const int maxva = kind & MAXVA, weighted = kind & WEIGHTED, amsgrad = kind & AMSGRAD;
    const int normalise_first = kind & NORMALISE_FIRST;
    float *restrict param = x->param, *restrict exp_avg = x->exp_avg, *restrict mean = x->mean, *restrict var = x->var;
    float *restrict weight_sum = x->weight_sum, *restrict exp_avg_sq = x->exp_avg_sq;
    float *restrict max_second = x->max_second;
    const float *restrict grad = x->grad;
    const float decay = (float)by->decay, step_size = (float)by->step_size;
    const float gamma_min = (float)by->gamma_min, gamma_max = (float)by->gamma_max;
    const float bias_correction2 = (float)by->bias_correction2;
    const float momentum = (float)c->one_minus_beta1, second = (float)c->one_minus_beta2;
    const float eps = (float)c->eps, sign = (float)c->sign;

    INDEPENDENT
    for (int64_t i = start; i < stop; i++) {
        const float g = sign * grad[i];
        float v;
        if (maxva) {
            const float e = g - mean[i], s = var[i];
            const float d = e * e;
            float q = d - s;
            if (weighted) q = q * weight_sum[i];
            const float gamma = at_most(at_least((q + TINY) / (q + d + s + TINY), gamma_min), gamma_max);
            float b = gamma, w = 1.0f;
            if (weighted) {
                w = weight_sum[i];
                w = w + (1.0f - w) * gamma;
                weight_sum[i] = w;
                b = gamma / w;
            }
            const float u = mean[i] + e * b;
            const float new_var = (s + d * b) * (1.0f - b);
            mean[i] = u;
            var[i] = new_var;
            v = u * u + new_var;
            if (amsgrad) {
                const float largest = maximum(max_second[i], weighted ? v * w : v);
                max_second[i] = largest;
                v = weighted ? largest / w : largest;
            }
        } else {
            v = exp_avg_sq[i];
            v = v + (g * g - v) * second;
            exp_avg_sq[i] = v;
            if (amsgrad) {
                v = maximum(max_second[i], v);
                max_second[i] = v;
            }
            v = v / bias_correction2;
        }
        const float root = sqrtf(v) + eps;
        float m = exp_avg[i], delta;
        if (normalise_first) {
            m = m + (g / root - m) * momentum;
            delta = m * step_size;
        } else {
            m = m + (g - m) * momentum;
            delta = m / root * step_size;
        }
        exp_avg[i] = m;
        param[i] = param[i] * decay - delta;
    }
}

/* Steps the elements [start, stop) of the tensors laid end to end, so that threads can share the work evenly. */
void step(const Tensors *tensors, const Scalars *scalars, const Constants *c, int64_t count, int64_t start,
          int64_t stop, int normalise_first) {
    int64_t offset = 0;
    for (int64_t k = 0; k < count && offset < stop; offset += tensors[k].numel, k++) {
        const Tensors *x = &tensors[k];
        const int64_t first = start > offset ? start - offset : 0;
        const int64_t last = stop - offset < x->numel ? stop - offset : x->numel;
        if (first >= last) continue;
        const int kind = (x->exp_avg_sq ? 0 : MAXVA) | (x->weight_sum ? WEIGHTED : 0) | (x->max_second ? AMSGRAD : 0) |
                         (normalise_first ? NORMALISE_FIRST : 0);
        switch (kind) {
#define CASE(kind) case kind: update(x, &scalars[k], c, first, last, kind); break;
        CASE(NORMALISE_FIRST)
        CASE(NORMALISE_FIRST | AMSGRAD)
        CASE(MAXVA)
        CASE(MAXVA | NORMALISE_FIRST)
        CASE(MAXVA | AMSGRAD)
        CASE(MAXVA | AMSGRAD | NORMALISE_FIRST)
        CASE(MAXVA | WEIGHTED)
        CASE(MAXVA | WEIGHTED | NORMALISE_FIRST)
        CASE(MAXVA | WEIGHTED | AMSGRAD)
        CASE(MAXVA | WEIGHTED | AMSGRAD | NORMALISE_FIRST)
        }
    }
}
