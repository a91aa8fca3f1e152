#ifndef TMF_TRAINING_H
#define TMF_TRAINING_H

#include "protocol_types.h"
#include "tmf_error.h"
#include "tmf_node.h"

/* The requests that bring samples, learn, and turn what was learnt into an update. Each returns TMF_OK with its
 * answer made, or left at `done`, or what is wrong. */

/* The samples of a request: its own, or where it has none the one that came in parts, of `whole` bytes,
 * which is used up by that. */
struct zcbor_string tmf_samples_given(struct tmf_node *node, const struct zcbor_string *own, size_t whole);

enum tmf_error tmf_do_part(struct tmf_node *node, const struct part *part);

enum tmf_error tmf_do_store(struct tmf_node *node, const struct store *store);

enum tmf_error tmf_do_train(struct tmf_node *node, const struct train *train,
                            struct response_body_r *answer);

enum tmf_error tmf_do_mark(struct tmf_node *node);

enum tmf_error tmf_do_renew(const struct tmf_node *node, const struct renew *renew);

enum tmf_error tmf_do_select(struct tmf_node *node, const struct select *select,
                             struct response_body_r *answer);

#endif
