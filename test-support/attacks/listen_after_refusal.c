/* Listens on a host socket whose connect was refused, without bind. */
#include "attack.h"

static void attack(void) {
    if (listen(refused(), 5) == 0) hold();
}
