"""From triplets to the next policy: step, job, launch, worker, process, trainer."""
