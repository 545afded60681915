/* Connects a host socket in repair mode (TCP_REPAIR), which sends nothing and skips the route. */
#include "attack.h"

static void attack(void) {
    int fd = refused(), one = 1;
    must(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof one), "TCP_REPAIR");
    reach(fd);
}
