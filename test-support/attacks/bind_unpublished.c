/* Binds to a port that is not published, and listens. */
#include "attack.h"

static void attack(void) {
    int fd = fresh(SOCK_STREAM);
    must(bind(fd, &to.any, length(&to)), "bind");
    if (listen(fd, 5) == 0) hold();
}
