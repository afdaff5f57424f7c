/* What rows draw from, made of logits; see sampling.edges, and elementary.py for exp and log, to the last bit. */

#include <stdint.h>
#include <string.h>

/* The same bits whatever the instructions, as long as nothing is contracted. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef FOR_EACH_PROCESSOR
#define FOR_EACH_PROCESSOR
#endif

static const double LEAST = -708.0, ROUND = 0x1.8p52, LOG2_E = 0x1.71547652b82fep+0;
static const double LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33, SQRT_2 = 0x1.6a09e667f3bcdp+0;

static inline double of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double exp_of(double x)
{
    const double bounded = x < LEAST ? LEAST : x;
    const double shifted = bounded * LOG2_E + ROUND, whole = shifted - ROUND;
    const double r = (bounded - whole * LN2_HIGH) - whole * LN2_LOW;
    double value = r * (1.0 / 6227020800);
    value = (value + 1.0 / 479001600) * r;
    value = (value + 1.0 / 39916800) * r;
    value = (value + 1.0 / 3628800) * r;
    value = (value + 1.0 / 362880) * r;
    value = (value + 1.0 / 40320) * r;
    value = (value + 1.0 / 5040) * r;
    value = (value + 1.0 / 720) * r;
    value = (value + 1.0 / 120) * r;
    value = (value + 1.0 / 24) * r;
    value = (value + 1.0 / 6) * r;
    value = (value + 1.0 / 2) * r;
    value = (value + 1.0) * r;
    value = (value + 1.0) * of_bits((bits_of(shifted) + 1023) << 52);
    return x < LEAST ? 0.0 : value;
}

static double log_of(double x)
{
    const uint64_t bits = bits_of(x);
    double exponent = (double)(int64_t)(bits >> 52) - 1023.0;
    double part = of_bits((bits & 0xFFFFFFFFFFFFF) | (uint64_t)1023 << 52);
    if (part > SQRT_2) {
        part *= 0.5;
        exponent += 1.0;
    }
    const double f = (part - 1.0) / (part + 1.0), square = f * f;
    double value = square * (1.0 / 21);
    for (int power = 19; power > 1; power -= 2)
        value = (value + 1.0 / power) * square;
    const double series = (value + 1.0) * (2.0 * f) + exponent * LN2_LOW;
    return exponent * LN2_HIGH + series + (x - x);
}

/* The largest of a row; what is no number, if there is such a thing. */
static double largest(const float *logits, int64_t vocabulary)
{
    float most = logits[0];
    for (int64_t id = 1; id < vocabulary; id++)
        if (!(logits[id] <= most) && most == most)
            most = logits[id];
    return most;
}

/* Of logits, [rows, vocabulary]: the sums of all weights up to each, of which a row's largest is 1, and the
 * logarithm of what a row's come to where its logits are as they are. */
FOR_EACH_PROCESSOR
void edges(const float *logits, int64_t rows, int64_t vocabulary, double *cumulative, double *log_partition)
{
    for (int64_t row = 0; row < rows; row++, logits += vocabulary, cumulative += vocabulary) {
        const double most = largest(logits, vocabulary);
        for (int64_t id = 0; id < vocabulary; id++)
            cumulative[id] = exp_of(logits[id] - most);
        for (int64_t id = 1; id < vocabulary; id++)
            cumulative[id] += cumulative[id - 1];
        log_partition[row] = most + log_of(cumulative[vocabulary - 1]);
    }
}

/* Each of so many numbers becomes its exponential, or its logarithm. */
FOR_EACH_PROCESSOR
void exp_each(double *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = exp_of(values[i]);
}

void log_each(double *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = log_of(values[i]);
}
