#pragma once
#include <stddef.h>
#include <stdint.h>

/* The programs of a round, for many nodes: what the orchestrator would do over their links, done here without
 * links, with the bytes counted that the frames would have had. Python reads this file (cffi): declarations only,
 * lines that begin with # are passed over. */

struct tmf_host;

/* Bytes of a request: its own where `source` is 0; of the client's support samples where it is 1, of its query
 * samples where it is 2, from byte `first` on. */
struct tmf_segment {
    const uint8_t *bytes;
    uint32_t source;
    uint32_t first;
    uint32_t size;
};

/* A request. name: an index into the bytes by request. segments: how many it is of. ordinal: of an `update`, which
 * of the runs it asks for; of an `evaluate`, which of the program's evaluations it is a part of. */
struct tmf_piece {
    uint32_t name;
    uint32_t segments;
    uint32_t ordinal;
};

/* A program in frames. requests: how many a frame has. The pieces of all frames lie one behind the other, and so do
 * the segments of all pieces.
 *
 * The first `alone` frames have a piece of the weights each, and nothing else: the same for all nodes that hold the
 * version `base`, so that they need not be done again for each. weights: their bytes by name. next: the first entry
 * of the piece behind them. sizes: room for the bytes of each of these frames with each sequence number, zeros. */
struct tmf_packing {
    uint32_t frames;
    uint32_t alone;
    uint32_t base;
    uint32_t next;
    uint32_t weights;
    uint32_t *sizes;
    const uint32_t *requests;
    const struct tmf_piece *pieces;
    const struct tmf_segment *segments;
};

struct tmf_run {
    uint32_t first;
    uint32_t end;
};

/* What is the same for all nodes. number: differs from job to job. load: a body that describes the model. backbone:
 * its frozen parameters. theta: the weights of `version`. runs: of the global part. update, framing: names. counts:
 * whether bytes are counted. */
struct tmf_job {
    uint64_t number;
    const uint8_t *load;
    size_t load_size;
    const float *backbone;
    const float *theta;
    uint32_t version;
    const struct tmf_run *runs;
    uint32_t run_count;
    uint32_t update;
    uint32_t framing;
    uint32_t counts;
};

/* A node, and what its program comes to. packing: its program in frames. held: the version of the weights that it
 * has. sequence: number of its last frame, which are 1 to 23. kept: what it keeps from round to round, NULL where that
 * is nothing. indices, values: room for all parameters of the global part, or NULL. frame_sizes: room for twice
 * `frame_room` numbers, bytes of each frame down, then of each up. loss, correct, samples: of the program's
 * evaluations, sums, zero before it.
 *
 * code: of the error that ended it, 0 where none did; -1 where it did what no node does. failed: name of the request.
 * down, up: bytes by name, samples not. */
struct tmf_client {
    const struct tmf_packing *packing;
    uint32_t held;
    uint32_t sequence;
    const uint8_t *support;
    const uint8_t *query;
    float *kept;
    int32_t *indices;
    float *values;
    uint32_t frame_room;
    uint32_t *frame_sizes;
    double *loss;
    uint32_t *correct;
    uint32_t *samples;

    int32_t code;
    uint32_t failed;
    uint32_t entries;
    uint32_t sensor;
    uint32_t frames;
    uint32_t down[18]; /* bytes by name: of every request, and framing */
    uint32_t up[18];
};

/* Adds weight · values to the entries of `sum` that `indices` names, each once, in their order. */
void tmf_clients_add(double *sum, const int32_t *indices, const float *values, size_t count, double weight);

/* Has `host` play the clients one after the other. Many may be at work at once, each with clients of its own. */
void tmf_clients_run(struct tmf_host *host, const struct tmf_job *job, struct tmf_client *clients, size_t count);
