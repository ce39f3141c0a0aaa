/* Arithmetic of NCCL's reductions. Each sum is rounded to the elements' type, as on a GPU; ranks are added in their order. */
#include "exchange.h"

#include <math.h>
#include <string.h>

size_t type_bytes(int type)
{
    static const size_t BYTES[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return BYTES[type];
}
int type_is_fraction(int type) { return type >= FLOAT16; }

/* --- Floating-point types that C does not have --- */

struct small {
    int exponent, mantissa; /* bits */
    unsigned most;          /* bits of what a larger number becomes: infinity, or the greatest number */
    unsigned not_a_number;
};
#define FINITE_E4M3 0x7e /* it has no infinity */
static const struct small SMALL[] = {
    [FLOAT16] = {5, 10, 0x7c00, 0x7e00},
    [BFLOAT16] = {8, 7, 0x7f80, 0x7fc0},
    [FLOAT8_E4M3] = {4, 3, FINITE_E4M3, 0x7f},
    [FLOAT8_E5M2] = {5, 2, 0x7b, 0x7f},
};
static int is_small(int type) { return type == FLOAT16 || type >= BFLOAT16; }

static double power_of_2(int exponent)
{
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double number;
    return memcpy(&number, &bits, sizeof number), number;
}

/* The bits are put where a double has its own, and the difference of the exponents is multiplied. */
static double widen(const struct small *as, unsigned bits)
{
    int width = as->exponent + as->mantissa, bias = (1 << (as->exponent - 1)) - 1;
    unsigned rest = bits & ((1u << width) - 1), infinite = ((1u << as->exponent) - 1) << as->mantissa;
    uint64_t moved = (uint64_t)rest << (52 - as->mantissa);
    double number;
    memcpy(&number, &moved, sizeof number);
    number *= power_of_2(1023 - bias);
    if (as->most == FINITE_E4M3 ? rest == as->not_a_number : rest >= infinite)
        number = as->most != FINITE_E4M3 && rest == infinite ? INFINITY : NAN;
    return bits >> width ? -number : number;
}

/* Rounds to the nearest, and to the even one of two. */
static unsigned narrow(const struct small *as, double number)
{
    int shift = 52 - as->mantissa, bias = (1 << (as->exponent - 1)) - 1;
    unsigned sign = (unsigned)!!signbit(number) << (as->exponent + as->mantissa);
    double moved = number * power_of_2(bias - 1023);
    uint64_t bits;
    if (isnan(number))
        return as->not_a_number | sign;
    memcpy(&bits, &moved, sizeof bits);
    bits &= ~(1ull << 63);
    bits = (bits + (1ull << (shift - 1)) - 1 + ((bits >> shift) & 1)) >> shift;
    return (unsigned)(bits > as->most ? as->most : bits) | sign;
}

static double small_at(int type, const char *address)
{
    uint16_t bits = 0;
    memcpy(&bits, address, type_bytes(type));
    return widen(&SMALL[type], bits);
}
static void put_small(int type, char *address, double number)
{
    uint16_t bits = (uint16_t)narrow(&SMALL[type], number);
    memcpy(address, &bits, type_bytes(type));
}

/* --- Each type --- */

static double reduced(int reduction, double a, double b)
{
    switch (reduction) {
    case PRODUCT:
        return a * b;
    case MAX:
        return isnan(a) || a > b ? a : b;
    case MIN:
        return isnan(a) || a < b ? a : b;
    default:
        return a + b;
    }
}

static void reduce_small(int type, int reduction, char *to, const char *from, size_t count, double factor, int is_first)
{
    size_t bytes = type_bytes(type);
    int multiplies = reduction == AVERAGE || reduction == MULTIPLIED_SUM;
    char one[2];
    for (size_t i = 0; i < count * bytes; i += bytes) {
        double number = small_at(type, from + i);
        if (multiplies) {
            put_small(type, one, number * factor);
            number = small_at(type, one);
        }
        put_small(type, to + i, is_first ? number : reduced(reduction, small_at(type, to + i), number));
    }
}

#define LOOP(expression)                                                                                               \
    for (size_t i = 0; i < count; i++) {                                                                               \
        TYPE a = to[i], b = multiplies ? (TYPE)(from[i] * (TYPE)factor) : from[i];                                     \
        to[i] = (expression);                                                                                          \
    }
#define REDUCE_AS(name, type, is_whole)                                                                                \
    static void name(int reduction, type *to, const type *from, size_t count, double factor, int is_first)             \
    {                                                                                                                  \
        typedef type TYPE;                                                                                             \
        int multiplies = reduction == MULTIPLIED_SUM || (reduction == AVERAGE && !is_whole);                           \
        if (is_first)                                                                                                  \
            LOOP(b)                                                                                                    \
        else if (reduction == PRODUCT)                                                                                 \
            LOOP(a * b)                                                                                                \
        else if (reduction == MAX)                                                                                     \
            LOOP(a > b || a != a ? a : b)                                                                              \
        else if (reduction == MIN)                                                                                     \
            LOOP(a < b || a != a ? a : b)                                                                              \
        else                                                                                                           \
            LOOP(a + b)                                                                                                \
    }
REDUCE_AS(reduce_i8, int8_t, 1)
REDUCE_AS(reduce_u8, uint8_t, 1)
REDUCE_AS(reduce_i32, int32_t, 1)
REDUCE_AS(reduce_u32, uint32_t, 1)
REDUCE_AS(reduce_i64, int64_t, 1)
REDUCE_AS(reduce_u64, uint64_t, 1)
REDUCE_AS(reduce_float, float, 0)
REDUCE_AS(reduce_double, double, 0)

typedef void (*reducer)(int, void *, const void *, size_t, double, int);
void reduce(int type, int reduction, char *to, const char *from, size_t count, double factor, int is_first)
{
    static const reducer REDUCERS[] = {
        (reducer)reduce_i8,  (reducer)reduce_u8,  (reducer)reduce_i32,   (reducer)reduce_u32,    (reducer)reduce_i64,
        (reducer)reduce_u64, NULL,                (reducer)reduce_float, (reducer)reduce_double,
    };
    if (is_small(type))
        reduce_small(type, reduction, to, from, count, factor, is_first);
    else
        REDUCERS[type](reduction, to, from, count, factor, is_first);
}

#define DIVIDE(type)                                                                                                   \
    for (size_t i = 0; i < count; i++)                                                                                 \
    ((type *)to)[i] /= (type)by
void divide(int type, char *to, size_t count, int by)
{
    switch (type) {
    case INT8:
        DIVIDE(int8_t);
        break;
    case UINT8:
        DIVIDE(uint8_t);
        break;
    case INT32:
        DIVIDE(int32_t);
        break;
    case UINT32:
        DIVIDE(uint32_t);
        break;
    case INT64:
        DIVIDE(int64_t);
        break;
    case UINT64:
        DIVIDE(uint64_t);
        break;
    }
}

double number_at(int type, const char *address)
{
    double number;
    float single;
    int64_t whole = 0;
    if (is_small(type))
        return small_at(type, address);
    if (type == FLOAT32)
        return memcpy(&single, address, sizeof single), single;
    if (type == FLOAT64)
        return memcpy(&number, address, sizeof number), number;
    return memcpy(&whole, address, type_bytes(type)), (double)whole;
}
