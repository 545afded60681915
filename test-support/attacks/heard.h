/* Answers that reach a published UDP port by another way than they were expected. */

#ifndef HEARD_H
#define HEARD_H

#include "attack.h"

static char answer[64];

/* Whether the answer has come, by way of whoever passes on what is sent to the port. */
static bool heard(void) {
    ssize_t len = recv(host, answer, sizeof answer - 1, MSG_DONTWAIT);
    if (len > 0) answer[len] = 0;
    return len > 0 && !strncmp(answer, "answer", 6);
}

#endif
