/* `text % number`, and `number in` a set or a dictionary: Python computes both in C, where an unknown number is one like any other.

   Python calls them through pointers in tables of its types. The entries of these tables, and the heads of objects,
   have the same places in all of its versions that have a global lock. */
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

enum { NUMBERS = 12, SEQUENCES = 13 }; /* tables of a type */
enum { REMAINDER = 3, CONTAINS = 7 };  /* entries of these */

static void **tuple_type, **fraction_type, **whole_type;
static struct object *(*format)(struct object *, struct object *);
static int (*set_contains)(struct object *, struct object *), (*dictionary_contains)(struct object *, struct object *);
static struct object *(*on_format)(struct object *text, struct object *number);
static int (*on_contains)(struct object *number, int is_in);

extern void Py_DecRef(struct object *) __attribute__((weak)); /* this library is in other processes, too */

static struct object *remainder_of_text(struct object *text, struct object *given)
{
    struct object *result = format(text, given), *number = given->type == fraction_type ? given : NULL;
    struct tuple *all = (struct tuple *)given;
    for (long i = 0; given->type == tuple_type && i < all->size && !number; i++)
        number = all->items[i]->type == fraction_type ? all->items[i] : NULL;
    if (!result || !number)
        return result;
    struct object *followed = on_format(result, number);
    Py_DecRef(result);
    return followed;
}

static int decided(struct object *key, int is_in)
{
    return is_in >= 0 && (key->type == fraction_type || key->type == whole_type) ? on_contains(key, is_in) : is_in;
}

static int in_set(struct object *set, struct object *key)
{
    return decided(key, set_contains(set, key));
}

static int in_dictionary(struct object *dictionary, struct object *key)
{
    return decided(key, dictionary_contains(dictionary, key));
}

/* The types are Python's str, set, dict, tuple, and those of the two kinds of numbers. */
void pretend_in_python(void **str, void **set, void **dict, void **tuple, void **fraction, void **whole,
                       struct object *(*formatted)(struct object *, struct object *),
                       int (*contained)(struct object *, int))
{
    void **numbers = str[NUMBERS], **of_set = set[SEQUENCES], **of_dict = dict[SEQUENCES];
    if (format) /* a process that was forked */
        return;
    tuple_type = tuple, fraction_type = fraction, whole_type = whole;
    on_format = formatted, on_contains = contained;
    format = numbers[REMAINDER], set_contains = of_set[CONTAINS], dictionary_contains = of_dict[CONTAINS];
    numbers[REMAINDER] = remainder_of_text, of_set[CONTAINS] = in_set, of_dict[CONTAINS] = in_dictionary;
}
