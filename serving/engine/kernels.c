/* The engine's loops that numpy runs slowly: over rows, characters and rounds that are few.
 *
 * Integers, comparisons and single operations in float64 alone, none of which may be contracted or reordered,
 * so that they give numpy's bits on every processor. See walking.py for what has the same in numpy. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef SOURCE_DIGEST
#error "compile it as hatch_build.py does"
#endif

/* SHA-256 of this file and its neighbours. */
const char source_digest[] = SOURCE_DIGEST;

enum { BOUNDARY = 0, UNCHOSEN = -1 };   /* tokens */
enum { NO_CHILD = 0 };                  /* where a place is meant */
enum { PHILOX_ROUNDS = 10 };

/* Where a record has its fields, in bytes from its beginning. */
typedef struct {
    int64_t size;
    int64_t token, at, first, length, max_length, seed, simple;
    int64_t place, sample, attempt, log_prob, uniform, text;
    int64_t kept;                   /* how many uniform numbers */
} Layout;

/* What rows draw from, by place: [N] or [N, V]. */
typedef struct {
    int64_t vocabulary;             /* V */
    float *logits;                  /* [N, V] */
    double *cumulative;             /* [N, V] */
    double *log_partition;          /* [N] */
    const int32_t *child;           /* [N, V]; null if none has any */
    int64_t *used;                  /* [N] */
} Places;

/* Rows that take the places of those that are done. */
typedef struct {
    const char *records;            /* complete but, with `fresh`, for their places */
    int64_t count;
    char *done;                     /* gets the rows whose places were taken */
    uint8_t *are_new;               /* [B], gets which rows are others now */
    const Places *fresh;            /* of one place: what they draw their first token from, if it is not at
                                       their places, which then are those of the rows before them */
    int64_t used;                   /* how many of the records */
} Relief;

/* A walk: what is given, and what comes of it. */
typedef struct {
    const Layout *layout;
    const Places *places;
    char *records;
    int64_t count;                  /* of records */
    int64_t clock, enough;
    Relief *relief;                 /* null for none */
    uint8_t *are_done;              /* gets one byte a row */
    int64_t hits;                   /* tokens that rows saw without a step */
    int64_t done;                   /* rows that are done */
    int64_t unchosen;               /* rows that are to be chosen for otherwise */
    int64_t relieved;               /* rows whose places others have taken */
    const float *stepped;           /* [V], what a step gave a row that is alone */
    int64_t *next;                  /* gets the token that the next step is for */
} Walk;

/* See edges.c. */
void edges(const float *logits, int64_t rows, int64_t vocabulary, double *cumulative, double *log_partition);

#define FIELD(type, name) ((type *)(record + layout->name))

static double uniform_at(uint64_t seed, uint32_t sample, uint32_t attempt, uint32_t step)
{
    uint32_t word[4] = {step, sample, attempt, 0};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t first = (uint64_t)word[0] * 0xD2511F53u;
        const uint64_t second = (uint64_t)word[2] * 0xCD9E8D57u;
        word[0] = (uint32_t)(second >> 32) ^ word[1] ^ key[0];
        word[1] = (uint32_t)second;
        word[2] = (uint32_t)(first >> 32) ^ word[3] ^ key[1];
        word[3] = (uint32_t)first;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return ((word[0] >> 5) * 67108864.0 + (word[1] >> 6)) / 9007199254740992.0;
}

static void fill(const Layout *layout, char *record, int64_t step)
{
    const uint64_t seed = *FIELD(uint64_t, seed);
    const uint32_t sample = (uint32_t)*FIELD(uint64_t, sample);
    const uint32_t attempt = (uint32_t)*FIELD(uint64_t, attempt);
    double *uniform = FIELD(double, uniform);
    for (int64_t i = 0; i < layout->kept; i++)
        uniform[i] = uniform_at(seed, sample, attempt, (uint32_t)(step + i));
}

/* The numbers that records keep for their first steps. */
void fill_uniforms(const Layout *layout, char *records, int64_t count)
{
    for (int64_t row = 0; row < count; row++)
        fill(layout, records + row * layout->size, 0);
}

/* The first id at which the cumulative weight passes. */
static int64_t drawn(const double *cumulative, int64_t vocabulary, double uniform)
{
    const double total = cumulative[vocabulary - 1];
    double target = uniform * total;
    if (target >= total)
        target = nextafter(total, 0.0);
    int64_t from = 0, to = vocabulary - 1;
    while (from < to) {
        const int64_t middle = from + (to - from) / 2;
        if (cumulative[middle] <= target)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* A row's next token by what is known at a place. */
static int64_t chosen(const Layout *layout, const Places *places, int64_t at, char *record)
{
    const int64_t step = *FIELD(int64_t, length) - *FIELD(int64_t, first), number = step % layout->kept;
    if (number == 0 && step > 0)
        fill(layout, record, step);
    const double *cumulative = places->cumulative + at * places->vocabulary;
    return drawn(cumulative, places->vocabulary, FIELD(double, uniform)[number]);
}

/* Whether a row goes on with a token. */
static int grows(const Layout *layout, const char *record, int64_t token)
{
    return token != BOUNDARY && *FIELD(int64_t, length) < *FIELD(int64_t, max_length);
}

/* Give a row a token that was chosen at a place; whether it was the last. */
static int take(const Layout *layout, const Places *places, int64_t at, char *record, int64_t token)
{
    const int64_t length = *FIELD(int64_t, length);
    const int goes_on = grows(layout, record, token);
    if (goes_on || token == BOUNDARY) {
        const double logit = places->logits[at * places->vocabulary + token];
        *FIELD(double, log_prob) += logit - places->log_partition[at];
    }
    FIELD(int32_t, text)[length] = (int32_t)token;
    *FIELD(int64_t, length) = length + goes_on;
    *FIELD(int64_t, token) = token;
    return !goes_on;
}

/* Draw a row's next token by what is known at a place; whether it was the last. */
static int draw(const Layout *layout, const Places *places, int64_t at, char *record)
{
    return take(layout, places, at, record, chosen(layout, places, at, record));
}

/* Let a row see its token, if where that leads is known; whether it is. */
static int see(const Layout *layout, const Places *places, char *record, int64_t clock)
{
    int64_t *place = FIELD(int64_t, place), *token = FIELD(int64_t, token);
    const int32_t next = places->child ? places->child[*place * places->vocabulary + *token] : NO_CHILD;
    if (next == NO_CHILD)
        return 0;
    places->used[next] = clock;
    *place = next;
    *token = UNCHOSEN;
    ++*FIELD(int64_t, at);
    return 1;
}

/* Let another row take a row's place, and draw; whether it is done with that. */
static int relieve(const Layout *layout, const Places *places, char *record, Relief *relief)
{
    const int64_t place = *FIELD(int64_t, place), offset = relief->used++ * layout->size;
    memcpy(relief->done + offset, record, layout->size);
    memcpy(record, relief->records + offset, layout->size);
    if (!relief->fresh)
        return draw(layout, places, *FIELD(int64_t, place), record);
    *FIELD(int64_t, place) = place;
    return draw(layout, relief->fresh, 0, record);
}

/* See Walker.walk. No row sees another token when `enough` were seen. */
void walk(Walk *walk)
{
    const Layout *layout = walk->layout;
    Relief *relief = walk->relief;
    const int64_t used = relief ? relief->used : 0;
    walk->hits = walk->done = walk->unchosen = 0;
    for (int64_t row = 0; row < walk->count; row++) {
        char *record = walk->records + row * layout->size;
        const int64_t *token = FIELD(int64_t, token);
        int ended = 0;
        if (relief)
            relief->are_new[row] = 0;
        do {
            if (*token < 0) {
                if (!*FIELD(uint8_t, simple)) {
                    walk->unchosen++;
                    break;
                }
                ended = draw(layout, walk->places, *FIELD(int64_t, place), record);
                while (ended && relief && relief->used < relief->count) {
                    ended = relieve(layout, walk->places, record, relief);
                    relief->are_new[row] = 1;
                }
            }
        } while (!ended && walk->hits < walk->enough && see(layout, walk->places, record, walk->clock) &&
                 ++walk->hits);
        walk->are_done[row] = (uint8_t)ended;
        walk->done += ended;
    }
    walk->relieved = relief ? relief->used - used : 0;
}

/* See Walker.go_on: let a row that is alone see its token, and draw, but not its last; whether it has. */
int64_t follow(Walk *walk)
{
    const Layout *layout = walk->layout;
    const Places *places = walk->places;
    const int64_t vocabulary = places->vocabulary;
    char *record = walk->records;
    const int64_t at = *FIELD(int64_t, place), place = at * vocabulary;
    memcpy(places->logits + place, walk->stepped, vocabulary * sizeof *walk->stepped);
    edges(walk->stepped, 1, vocabulary, places->cumulative + place, places->log_partition + at);
    *FIELD(int64_t, token) = UNCHOSEN;
    ++*FIELD(int64_t, at);
    const int64_t token = chosen(layout, places, at, record);
    if (!grows(layout, record, token))
        return 0;
    take(layout, places, at, record, token);
    *walk->next = token;
    return 1;
}
