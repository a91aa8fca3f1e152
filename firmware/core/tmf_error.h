#ifndef TMF_ERROR_H
#define TMF_ERROR_H

#include <stddef.h>

/* What a request can come to. The numbers are part of the protocol. */
enum tmf_error {
    TMF_OK = 0,
    TMF_ERROR_MALFORMED = 1, /* not a request of the protocol */
    TMF_ERROR_NO_MODEL = 2,  /* no model loaded */
    TMF_ERROR_MODEL = 3,     /* a model that cannot be: unknown operation, zero outputs … */
    TMF_ERROR_MEMORY = 4,    /* does not fit; the response says the bytes needed and available */
    TMF_ERROR_WEIGHTS = 5,   /* no complete weights held, or a broadcast for another version */
    TMF_ERROR_RANGE = 6,     /* entries outside the parameters, or in no order */
    TMF_ERROR_ENCODING = 7,  /* a chunk whose bytes do not match its head */
    TMF_ERROR_SAMPLES = 8,   /* not a whole number of samples, none, or a class out of range */
    TMF_ERROR_ARGUMENT = 9,  /* a rate that is not finite, a batch of zero … */
    TMF_ERROR_DIVERGED = 10, /* a loss or an update that is not finite */
    TMF_ERROR_ORDER = 11,    /* the request needs another one before it */
};

/* One line of text for a person. */
struct tmf_text {
    const char *text;
    size_t size;
};

const struct tmf_text *tmf_error_text(enum tmf_error error);

#endif
