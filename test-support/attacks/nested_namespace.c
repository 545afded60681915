/* Makes a network namespace of its own before its first call, and connects there. */
#include "attack.h"

static void attack(void) {
    must(unshare(CLONE_NEWUSER | CLONE_NEWNET), "unshare");
    reach(fresh(SOCK_STREAM));
}
