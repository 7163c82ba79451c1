-- Compiling would take longer than running it.

alter function @schema@.expire_jobs(int) set jit = off;
