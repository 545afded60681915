/* Dissolves a connection that is allowed, and connects a duplicate of the socket. */
#include "attack.h"

static void attack(void) { reach(dissolved(SOCK_STREAM)); }
