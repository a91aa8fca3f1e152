#include "tmf_error.h"

#define TEXT(text) {text, sizeof text - 1}

static const struct tmf_text texts[] = {
    [TMF_OK] = TEXT("ok"),
    [TMF_ERROR_MALFORMED] = TEXT("not a request of this protocol"),
    [TMF_ERROR_NO_MODEL] = TEXT("no model loaded"),
    [TMF_ERROR_MODEL] = TEXT("the layers do not make a model"),
    [TMF_ERROR_MEMORY] = TEXT("does not fit into the memory for a model"),
    [TMF_ERROR_WEIGHTS] = TEXT("the weights of that version are not held"),
    [TMF_ERROR_RANGE] = TEXT("entries outside the parameters or out of order"),
    [TMF_ERROR_ENCODING] = TEXT("the chunk's bytes do not match its head"),
    [TMF_ERROR_SAMPLES] = TEXT("not a whole number of valid samples"),
    [TMF_ERROR_ARGUMENT] = TEXT("an argument is out of range"),
    [TMF_ERROR_DIVERGED] = TEXT("training diverged: a value is not finite"),
    [TMF_ERROR_ORDER] = TEXT("not now: another request has to come first"),
};

const struct tmf_text *tmf_error_text(enum tmf_error error)
{
    return &texts[error];
}
