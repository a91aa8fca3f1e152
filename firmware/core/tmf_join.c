/* Where a model is no chain: layers that read the outputs of an earlier one, their source. */
#include <stddef.h>

#include "tmf_matrix.h"
#include "tmf_operation.h"

/* inputs and source are known, and as many. */
static enum tmf_error plan(struct tmf_layer *layer)
{
    layer->outputs = layer->inputs;
    return layer->argument_count == 1 ? TMF_OK : TMF_ERROR_MODEL;
}

/* ---- add: y = x + source ----------------------------------------------------------------------------- */

static void add_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    if (layer->y != layer->x) {
        tmf_vector_copy(layer->y, layer->x, layer->outputs);
    }
    tmf_vector_add(layer->y, layer->from, layer->outputs);
}

static void add_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                         float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    if (layer->gather != NULL) {
        tmf_vector_add(layer->gather, dy, layer->outputs);
    }
    if (dx != NULL && dx != dy) {
        tmf_vector_copy(dx, dy, layer->outputs);
    }
}

/* ---- route: y = source, whatever the layer before gives ----------------------------------------------- */

/* y is where the source's outputs are, if the next layer leaves them there. */
static void route_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    if (layer->y != layer->from) {
        tmf_vector_copy(layer->y, layer->from, layer->outputs);
    }
}

static void route_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                           float *sink, float scale)
{
    (void)w, (void)dx, (void)sink, (void)scale;
    if (layer->gather != NULL) {
        tmf_vector_add(layer->gather, dy, layer->outputs);
    }
}

const struct tmf_operation tmf_add = {
    .plan = plan,
    .forward = add_forward,
    .backward = add_backward,
    .in_place = true,
    .source = TMF_BESIDES_X,
};
const struct tmf_operation tmf_route = {
    .plan = plan,
    .forward = route_forward,
    .backward = route_backward,
    .source = TMF_INSTEAD_OF_X,
};
