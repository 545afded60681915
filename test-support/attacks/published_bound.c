/* Binds to a published port, and connects from there. */
#include "attack.h"

static void attack(void) {
    int fd = fresh(SOCK_STREAM);
    must(bind(fd, &published.any, length(&published)), "bind to a published port");
    reach(fd);
}
