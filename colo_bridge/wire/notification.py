"""What QEMU's comparator and a checkpoint manager tell each other over its notify socket.

    manager     PROXY_INIT   →   comparator        answered by PROXY_READY
    comparator  DO_CHECKPOINT →  manager           the replicas differ
    manager     CHECKPOINT_DONE  → comparator      the secondary has the primary's state: release what is held

Each is a message of its own in the format of `framing`, without a final zero byte. The format is not the same
both ways: where header lengths are agreed on, the manager sends that word (zero) here too, and the comparator does not.

Texts and format: QEMU 7.2, net/colo-compare.c (compare_notify_rs_finalize, notify_remote_frame, _compare_chr_send,
colo_compare_complete).
"""

from __future__ import annotations

PROXY_INIT = b"COLO_USERSPACE_PROXY_INIT"
PROXY_READY = b"COLO_COMPARE_GET_XEN_INIT"
DO_CHECKPOINT = b"DO_CHECKPOINT"
CHECKPOINT_DONE = b"COLO_CHECKPOINT"
