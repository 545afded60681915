/* Dissolves a connection that is allowed, and listens on a duplicate of the socket. */
#include "attack.h"

static void attack(void) {
    if (listen(dissolved(SOCK_STREAM), 5) == 0) hold();
}
