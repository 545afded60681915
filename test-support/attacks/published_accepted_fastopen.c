/* Dissolves a connection that a published listener has accepted, and sends from a duplicate
 * with MSG_FASTOPEN. */
#include "attack.h"

static void attack(void) {
    int accepted, client = own_connection(&accepted), fd = accepted;
    (void)client;
    put_by(fd);
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach_by_fastopen(fetched());
}
