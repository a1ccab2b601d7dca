/* Preloaded into QEMU, lets COLO run without KVM: gcc -shared -fPIC -O2 -o colo_without_kvm.so colo_without_kvm.c -ldl
 *
 * QEMU's checkpoint thread has a virtual CPU do work for it and waits for that on a condition, with the big lock,
 * which it does not hold: it comes back as its owner, and locks itself out.  The wake-up that it sent the virtual
 * CPU may be lost for the same reason.  Here such a caller takes the lock for the time of its call, wakes everybody
 * else who waits with that lock (who has to expect that at any time), and waits for a millisecond at most.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAITERS 32

static struct waiter {
    pthread_cond_t *condition;
    pthread_mutex_t *lock;
} waiters[WAITERS];

static struct waiter *claim(pthread_mutex_t *lock)
{
    for (int i = 0; i < WAITERS; i++) {
        pthread_mutex_t *nobodys = NULL;
        if (__atomic_compare_exchange_n(&waiters[i].lock, &nobodys, lock, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return &waiters[i];
    }
    return NULL;
}

static int wait_as_owner(pthread_cond_t *condition, pthread_mutex_t *lock)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *);
    static __thread struct waiter *mine;
    int result;

    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_cond_wait");
    if (!mine)
        mine = claim(lock);
    if (mine) {
        mine->lock = lock;
        mine->condition = condition;
    }
    result = real(condition, lock);
    if (mine)
        mine->condition = NULL;
    return result;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock)
{
    static __thread int me;
    struct timespec until;

    if (!me)
        me = (int)syscall(SYS_gettid);
    if (lock->__data.__owner == me || lock->__data.__kind != PTHREAD_MUTEX_TIMED_NP)
        return wait_as_owner(condition, lock);
    pthread_mutex_lock(lock);
    for (int i = 0; i < WAITERS; i++)
        if (waiters[i].lock == lock && waiters[i].condition)
            pthread_cond_broadcast(waiters[i].condition);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_clockwait(condition, lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(lock);
    return 0;
}
