/* Stops listening on a published port that another program of the host takes at once, and
 * connects to it as to its own. */
#include "attack.h"

static void attack(void) {
    address any = wildcard(ntohs(own.v4.sin_port));
    int one = 1;
    turn();
    for (double limit = now() + 2 * RACE; now() < limit;) {
        int server = fresh(SOCK_STREAM);
        setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(server, &any.any, length(&any)) == 0) listen(server, 8);
        close(server);
        for (int i = 0; i < 20; i++) {
            int fd = fresh(SOCK_STREAM);
            if (connect(fd, &own.any, length(&own)) == 0)
                send(fd, token, strlen(token), MSG_NOSIGNAL);
            close(fd);
        }
    }
}
