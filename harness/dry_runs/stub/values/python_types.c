/* What Python computes in C, where an unknown number is one like any other: `text % number`, `number in` a set or a
   dictionary, `type(number)`, `float(text)`, `int(number)`, and objects that are made of numbers.

   Python calls these through pointers in its types. The places of the pointers, and the heads of objects, are the same
   in all of its versions that have a global lock. */
#include "pretend.h"

struct object {
    long references;
    void **type;
};

struct tuple {
    struct object head;
    long size;
    struct object *items[];
};

typedef struct object *function_of_two(struct object *, struct object *);
typedef int contains(struct object *, struct object *);
typedef struct object *calling(void **type, struct object *const *given, size_t count, struct object *names);
typedef struct object *making(void **type, struct object *given, struct object *named);

enum { NUMBERS = 12, SEQUENCES = 13 };                     /* tables of a type */
enum { REMAINDER = 3, CONTAINS = 7 };                      /* entries of these */
enum { FLAGS = 21, BASE = 32, MAKING = 39, CALLING = 50 }; /* entries of a type */
enum { IMMUTABLE = 1 << 8 };                               /* a flag */
enum { MOST_MADE = 4 };

static struct types { /* Python's, those of the two kinds of numbers and of a text of one, and those made of numbers */
    void **str, **set, **dict, **tuple, **type, **real, **integer, **fraction, **whole, **text, **tensor, **made[MOST_MADE];
} types;
static struct callbacks {
    struct object *(*formatted)(struct object *text, struct object *number);
    int (*contained)(struct object *number, int is_in);
    int (*is_plain)(struct object *number); /* for the code that asks for its type */
    void (*read)(struct object *given);
    struct object *(*number)(struct object *given, int is_real); /* returns what it was given if it is not followed */
} on;
static struct object *texts; /* a dictionary, by the texts of unknown numbers */
static function_of_two *format;
static contains *set_contains, *dictionary_contains;
static calling *type_call, *real_call, *integer_call;
static making *made_by[MOST_MADE];

extern void Py_IncRef(struct object *) __attribute__((weak)); /* this library is in other processes, too */
extern void Py_DecRef(struct object *) __attribute__((weak));
extern int PyDict_Contains(struct object *, struct object *) __attribute__((weak));
extern void *PyThreadState_Get(void) __attribute__((weak));
extern struct object *_PyObject_MakeTpCall(void *thread, void **called, struct object *const *given, size_t count,
                                           struct object *names) __attribute__((weak));

static int is_number(struct object *one)
{
    return one->type == types.fraction || one->type == types.whole;
}

static struct object *remainder_of_text(struct object *text, struct object *given)
{
    struct object *result = format(text, given), *number = given->type == types.fraction ? given : NULL;
    struct tuple *all = (struct tuple *)given;
    for (long i = 0; given->type == types.tuple && i < all->size && !number; i++)
        number = all->items[i]->type == types.fraction ? all->items[i] : NULL;
    if (!result || !number)
        return result;
    struct object *followed = on.formatted(result, number);
    Py_DecRef(result);
    return followed;
}

static int decided(struct object *key, int is_in)
{
    return is_in >= 0 && is_number(key) ? on.contained(key, is_in) : is_in;
}

static int in_set(struct object *set, struct object *key)
{
    return decided(key, set_contains(set, key));
}

static int in_dictionary(struct object *dictionary, struct object *key)
{
    return decided(key, dictionary_contains(dictionary, key));
}

static size_t number_of_given(size_t count)
{
    return count << 1 >> 1; /* the highest bit says how they are kept */
}

static int is_one(size_t count, struct object *names)
{
    return number_of_given(count) == 1 && !names;
}

static struct object *type_of(void **type, struct object *const *given, size_t count, struct object *names)
{
    if (type == types.type && is_one(count, names) && (is_number(*given) || given[0]->type == types.text)) {
        void **answer = given[0]->type;
        if (on.is_plain(*given))
            answer = answer[BASE];
        Py_IncRef((struct object *)answer);
        return (struct object *)answer;
    }
    return type_call(type, given, count, names);
}

static int has_number(struct object *one)
{
    return is_number(one) || one->type == types.text || one->type == types.tensor ||
           (one->type == types.str && PyDict_Contains(texts, one) == 1);
}

static struct object *number_of(void **type, struct object *const *given, size_t count, struct object *names)
{
    if (is_one(count, names) && has_number(*given)) {
        struct object *followed = on.number(*given, type == types.real);
        if (followed && (followed != *given || is_number(followed)))
            return followed;
        if (followed)
            Py_DecRef(followed);
    }
    if (type == types.integer && !integer_call) /* up to Python 3.11 */
        return _PyObject_MakeTpCall(PyThreadState_Get(), type, given, number_of_given(count), names);
    return (type == types.real ? real_call : integer_call)(type, given, count, names);
}

static struct object *made_of(void **type, struct object *given, struct object *named)
{
    if (given)
        on.read(given);
    for (void **base = type; base; base = base[BASE])
        for (int i = 0; i < MOST_MADE && types.made[i]; i++)
            if (base == types.made[i])
                return made_by[i](type, given, named);
    return NULL;
}

static void let_change(void **type)
{
    type[FLAGS] = (void *)((size_t)type[FLAGS] & ~(size_t)IMMUTABLE);
}

void pretend_in_python(const struct types *of, const struct callbacks *callbacks, struct object *dictionary)
{
    if (format) /* a process that was forked */
        return;
    types = *of, on = *callbacks, texts = dictionary;
    void **numbers = types.str[NUMBERS], **of_set = types.set[SEQUENCES], **of_dict = types.dict[SEQUENCES];
    format = numbers[REMAINDER], set_contains = of_set[CONTAINS], dictionary_contains = of_dict[CONTAINS];
    numbers[REMAINDER] = remainder_of_text, of_set[CONTAINS] = in_set, of_dict[CONTAINS] = in_dictionary;
    type_call = types.type[CALLING], real_call = types.real[CALLING], integer_call = types.integer[CALLING];
    types.type[CALLING] = type_of, types.real[CALLING] = types.integer[CALLING] = number_of;
    let_change(types.type); /* a line that asks an immutable one often does so without a call */
    for (int i = 0; i < MOST_MADE && types.made[i]; i++) {
        let_change(types.made[i]);
        made_by[i] = types.made[i][MAKING], types.made[i][MAKING] = made_of;
    }
}
