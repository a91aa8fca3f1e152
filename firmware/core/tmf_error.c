#include "tmf_error.h"

const char *tmf_error_text(enum tmf_error error)
{
    switch (error) {
    case TMF_OK: return "ok";
    case TMF_ERROR_MALFORMED: return "not a request of this protocol";
    case TMF_ERROR_NO_MODEL: return "no model loaded";
    case TMF_ERROR_MODEL: return "the layers do not make a model";
    case TMF_ERROR_MEMORY: return "does not fit into the memory for a model";
    case TMF_ERROR_WEIGHTS: return "the weights of that version are not held";
    case TMF_ERROR_RANGE: return "entries outside the parameters or out of order";
    case TMF_ERROR_ENCODING: return "the chunk's bytes do not match its head";
    case TMF_ERROR_SAMPLES: return "not a whole number of valid samples";
    case TMF_ERROR_ARGUMENT: return "an argument is out of range";
    case TMF_ERROR_DIVERGED: return "training diverged: a value is not finite";
    case TMF_ERROR_ORDER: return "not now: another request has to come first";
    }
    return "unknown error";
}
