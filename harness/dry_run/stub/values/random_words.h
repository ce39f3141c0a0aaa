/* Random numbers of the host that nobody draws: PyTorch's generator, a Mersenne Twister, goes on by many words. */
#ifndef RANDOM_WORDS_H
#define RANDOM_WORDS_H

#include <stdint.h>

namespace {

constexpr int WORDS = 624, MIDDLE = 397;

uint32_t twisted(uint32_t a, uint32_t b)
{
    return ((a & 0x80000000u) | (b & 0x7fffffffu)) >> 1 ^ (-(b & 1) & 0x9908b0dfu);
}

__attribute__((optimize("O3"))) void next_words(uint32_t *word)
{
    for (int i = 0; i < WORDS - MIDDLE; i++)
        word[i] = word[i + MIDDLE] ^ twisted(word[i], word[i + 1]);
    for (int i = WORDS - MIDDLE; i < WORDS - 1; i++)
        word[i] = word[i + MIDDLE - WORDS] ^ twisted(word[i], word[i + 1]);
    word[WORDS - 1] = word[MIDDLE - 1] ^ twisted(word[WORDS - 1], word[0]);
}

/* Changes a state as get_rng_state() gives it. */
void skip_random(void *bytes, uint64_t count)
{
    struct State {
        uint64_t seed;
        int left, seeded;
        uint64_t next, words[WORDS];
    } *state = static_cast<State *>(bytes);
    uint32_t words[WORDS + 1];
    for (int i = 0; i < WORDS; i++)
        words[i] = static_cast<uint32_t>(state->words[i]);
    for (; count >= static_cast<uint64_t>(state->left); state->left = WORDS, state->next = 1) {
        count -= static_cast<uint64_t>(state->left);
        next_words(words);
    }
    state->left -= static_cast<int>(count);
    state->next += count;
    for (int i = 0; i < WORDS; i++)
        state->words[i] = words[i];
}

} // namespace
#endif
