/* Dissolves a connection that a published listener has accepted, and connects a duplicate of
 * the socket. */
#include "attack.h"

static void attack(void) {
    int accepted, client = own_connection(&accepted), fd = accepted;
    (void)client;
    put_by(fd);
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach(fetched());
}
