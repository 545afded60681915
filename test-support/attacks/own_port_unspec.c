/* Dissolves a connection to a published port of its own, and connects a duplicate of the
 * socket. */
#include "attack.h"

static void attack(void) {
    int accepted, client = own_connection(&accepted), fd = client;
    (void)client;
    put_by(fd);
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach(fetched());
}
