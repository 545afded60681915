/* Binds to a published port, and sends from there with MSG_FASTOPEN. */
#include "attack.h"

static void attack(void) {
    int fd = fresh(SOCK_STREAM);
    must(bind(fd, &published.any, length(&published)), "bind to a published port");
    reach_by_fastopen(fd);
}
