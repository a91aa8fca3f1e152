/* A node whose link is standard input and output: the core and its host port under the sanitizers,
 * in a process of their own that may die. */
#include <stdio.h>
#include <unistd.h>

#include "tmf_host.h"

int main(void)
{
    static const uint8_t build[20];
    struct tmf_host *host = tmf_host_new(build);
    if (host == NULL) {
        return 1;
    }
    uint8_t buffer[4096];
    ssize_t n = 0;
    do {
        tmf_host_write(host, buffer, (size_t)n);
        for (size_t size; (size = tmf_host_read(host, buffer, sizeof buffer)) > 0;) {
            if (fwrite(buffer, 1, size, stdout) != size) {
                return 1;
            }
        }
        fflush(stdout);
    } while ((n = read(STDIN_FILENO, buffer, sizeof buffer)) > 0);
    tmf_host_free(host);
    return n == 0 ? 0 : 1;
}
