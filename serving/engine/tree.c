/* The prefix tree's loops over nodes: what numpy takes twenty calls for, of which each costs as much as the work
 * for a hundred nodes. See branching.py, which has the same in numpy, and storage.py. */

#include <stdint.h>
#include <string.h>

enum { ROOT = 0, NONE = 0 };            /* nodes; no node where a child is meant, and no slot */
enum { BUCKETS = 512 };                 /* of pairs; twice as many at least as there may be */

/* The columns of nodes, [N] or [N, V]. */
typedef struct {
    int64_t vocabulary;                 /* V */
    float *logits;                      /* [N, V] */
    double *cumulative;                 /* [N, V] */
    double *log_partition;              /* [N] */
    int32_t *child;                     /* [N, V] */
    int32_t *parent, *token, *slot;
    int64_t *used;
    double *chance;
    int32_t *node;                      /* of slots */
} Nodes;

/* What is to be computed for rows: M pairs of a node and a token, each once; where there is but one, another follows
 * that is the same. */
typedef struct {
    int64_t *rows;                      /* [B], those whose tokens lead to no node, in any order */
    int64_t *sources, *tokens;          /* [M] */
    int64_t *targets;                   /* [M], nodes that the pairs lead to */
    int64_t missing, count, added;      /* how many rows, pairs, and pairs that lead to no node yet */
} Plan;

/* Rows, each with the node that it is at, and its token. */
typedef struct {
    const int64_t *places, *tokens;     /* [B] */
    int64_t count;
} Rows;

static int32_t *child_of(const Nodes *nodes, int64_t node, int64_t token)
{
    return nodes->child + node * nodes->vocabulary + token;
}

/* Put a pair into the plan, unless it is there; `buckets` have its pairs' numbers plus 1, by hash. */
static void want(const Nodes *nodes, Plan *plan, uint16_t *buckets, int64_t source, int64_t token)
{
    uint64_t hash = ((uint64_t)source * 0x9E3779B97F4A7C15u + (uint64_t)token) * 0xD1B54A32D192ED03u >> 32;
    for (;; hash++) {
        uint16_t *bucket = buckets + hash % BUCKETS;
        if (!*bucket) {
            plan->sources[plan->count] = source;
            plan->tokens[plan->count] = token;
            plan->added += *child_of(nodes, source, token) == NONE;
            *bucket = (uint16_t)++plan->count;
            return;
        }
        if (plan->sources[*bucket - 1] == source && plan->tokens[*bucket - 1] == token)
            return;
    }
}

/* See Branching.plan: `after` gets where each row comes to, or NONE; what is to be computed is that of `wide` rows
 * at most, from the one numbered `first` on. */
void plan(const Nodes *nodes, const Rows *rows, int64_t clock, int64_t wide, int64_t first, int64_t *after,
          Plan *plan)
{
    uint16_t buckets[BUCKETS] = {0};
    plan->missing = plan->count = plan->added = 0;
    for (int64_t row = 0; row < rows->count; row++) {
        const int64_t place = rows->places[row];
        after[row] = *child_of(nodes, place, rows->tokens[row]);
        if (after[row] == NONE)
            plan->rows[plan->missing++] = row;
        nodes->used[after[row] == NONE ? place : after[row]] = clock;
    }
    for (int64_t i = 0; i < plan->missing && i < wide; i++) {
        const int64_t row = plan->rows[(first + i) % plan->missing];
        int64_t source = rows->places[row];
        int64_t token = rows->tokens[row];
        while (nodes->slot[source] == NONE) {
            token = nodes->token[source];
            source = nodes->parent[source];
        }
        want(nodes, plan, buckets, source, token);
    }
    if (plan->count == 1) {
        plan->sources[1] = plan->sources[0];
        plan->tokens[1] = plan->tokens[0];
    }
}

/* What is known after a node's token: a part of what comes after it. */
static double chance_of(const Nodes *nodes, int64_t node, int64_t token)
{
    const double *cumulative = nodes->cumulative + node * nodes->vocabulary;
    const double weight = cumulative[token] - (token ? cumulative[token - 1] : 0.0);
    return nodes->chance[node] * (weight / cumulative[nodes->vocabulary - 1]);
}

/* See Branching.enter: nodes and slots for what the pairs lead to, and what is known there. `rare` gets the nodes
 * that are new and have less than so much of a chance, of which there are as many as it returns. */
int64_t enter(const Nodes *nodes, const Plan *plan, const int64_t *fresh, const int64_t *slots, int64_t clock,
              const float *logits, const double *cumulative, const double *log_partition, double chance,
              int64_t *rare)
{
    const int64_t size = nodes->vocabulary;
    int64_t are_rare = 0;
    for (int64_t i = 0; i < plan->count; i++) {
        const int64_t source = plan->sources[i], token = plan->tokens[i];
        int32_t *child = child_of(nodes, source, token);
        if (*child == NONE) {
            const int64_t node = *child = (int32_t)*fresh++;
            nodes->parent[node] = (int32_t)source;
            nodes->token[node] = (int32_t)token;
            nodes->chance[node] = chance_of(nodes, source, token);
            if (nodes->chance[node] < chance)
                rare[are_rare++] = node;
        }
        const int64_t node = plan->targets[i] = *child;
        nodes->slot[node] = (int32_t)slots[i];
        nodes->node[slots[i]] = (int32_t)node;
        nodes->used[node] = clock;
        memcpy(nodes->logits + node * size, logits + i * size, (size_t)size * sizeof *logits);
        memcpy(nodes->cumulative + node * size, cumulative + i * size, (size_t)size * sizeof *cumulative);
        nodes->log_partition[node] = log_partition[i];
    }
    if (plan->count == 1)
        plan->targets[1] = plan->targets[0];
    return are_rare;
}

/* See Branching.arrive: where rows are after the step, and which of them got there. */
void arrive(const Nodes *nodes, const Rows *rows, int64_t clock, const Plan *plan, int64_t *after, uint8_t *moved)
{
    memset(moved, 1, (size_t)rows->count);
    for (int64_t i = 0; i < plan->missing; i++) {
        const int64_t row = plan->rows[i], place = rows->places[row];
        const int64_t next = *child_of(nodes, place, rows->tokens[row]);
        moved[row] = next != NONE;
        after[row] = next == NONE ? place : next;
        nodes->used[after[row]] = clock;
    }
}

/* See Branching.spare: take their slots from those of some nodes that nobody has come by since an instant. What
 * stays of the `nodes` comes first then, and there is so much of it; `gone` gets the slots, and how many. */
int64_t spare(const Nodes *nodes, int64_t *some, int64_t count, int64_t since, int64_t *gone, int64_t *are_gone)
{
    int64_t stay = 0;
    *are_gone = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t node = some[i];
        if (nodes->used[node] >= since)
            some[stay++] = node;
        else if (nodes->slot[node] != NONE) {
            gone[(*are_gone)++] = nodes->slot[node];
            nodes->slot[node] = NONE;
        }
    }
    return stay;
}

/* Where a slot has what of a state: `outer` times `inner` bytes, one entry of the state's [outer, entries, inner];
 * or, where there are no entries, all `inner` bytes of it. */
typedef struct {
    int64_t within, outer, entries, inner;
} Piece;

static int64_t depth_of(const int32_t *parent, int64_t node)
{
    int64_t depth = 0;
    for (; node != ROOT; node = parent[node])
        depth++;
    return depth;
}

/* A row's part of a state: its entry of that number. */
static char *entry_of(const Piece *piece, char *state, int64_t row, int64_t outer, int64_t number)
{
    return state + ((row * piece->outer + outer) * piece->entries + number) * piece->inner;
}

static int has_entries(const Piece *pieces, int64_t states)
{
    for (int64_t i = 0; i < states; i++)
        if (pieces[i].entries)
            return 1;
    return 0;
}

/* See storage.Packed: the states of nodes, of what they and those on the way to them have added. */
void gather(const Piece *pieces, int64_t states, int64_t slot_bytes, const char *slots,
            const int32_t *parent, const int32_t *slot, const int64_t *nodes, int64_t count,
            char *const *into)
{
    const int is_chained = has_entries(pieces, states);
    for (int64_t row = 0; row < count; row++) {
        int64_t node = nodes[row];
        for (int64_t number = is_chained ? depth_of(parent, node) : 0; number >= 0; number--) {
            const char *added = slots + slot[node] * slot_bytes;
            for (int64_t i = 0; i < states; i++) {
                const Piece *piece = pieces + i;
                if (number < piece->entries)
                    for (int64_t o = 0; o < piece->outer; o++)
                        memcpy(entry_of(piece, into[i], row, o, number),
                               added + piece->within + o * piece->inner, piece->inner);
                else if (!piece->entries && node == nodes[row])
                    memcpy(into[i] + row * piece->inner, added + piece->within, piece->inner);
            }
            node = parent[node];
        }
    }
}

/* The other way: what nodes have added, of the states after them. */
void put(const Piece *pieces, int64_t states, int64_t slot_bytes, char *slots,
         const int32_t *parent, const int32_t *slot, const int64_t *nodes, int64_t count,
         char *const *from)
{
    const int is_chained = has_entries(pieces, states);
    for (int64_t row = 0; row < count; row++) {
        const int64_t node = nodes[row], number = is_chained ? depth_of(parent, node) : 0;
        char *added = slots + slot[node] * slot_bytes;
        for (int64_t i = 0; i < states; i++) {
            const Piece *piece = pieces + i;
            if (number < piece->entries)
                for (int64_t o = 0; o < piece->outer; o++)
                    memcpy(added + piece->within + o * piece->inner,
                           entry_of(piece, from[i], row, o, number), piece->inner);
            else if (!piece->entries)
                memcpy(added + piece->within, from[i] + row * piece->inner, piece->inner);
        }
    }
}
