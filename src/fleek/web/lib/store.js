// Jobs by id, as they were last seen. One round of calls per animation frame, however many have changed.
const MOST = 5000;
export const jobs = new Map();
const followers = new Set();
let changed = new Set(), frame = 0;

export function put(job, from = "list") {
  const known = jobs.get(job.id);
  if (known && known.updated_at > job.updated_at) return known;
  const merged = known ? { ...job, queue_position: job.queue_position ?? known.queue_position } : job;
  jobs.delete(job.id);
  jobs.set(job.id, merged);
  if (jobs.size > MOST) {
    for (const [id, one] of jobs) {
      if (jobs.size <= MOST) break;
      if (!unfinished(one)) jobs.delete(id);
    }
  }
  if (from === "event" || known?.updated_at !== job.updated_at) mark(job.id);
  return merged;
}

export function drop(id) {
  if (jobs.delete(id)) mark(id);
}

function mark(id) {
  changed.add(id);
  frame ||= requestAnimationFrame(() => {
    const ids = changed;
    changed = new Set();
    frame = 0;
    for (const follow of followers) follow(ids);
  });
}

export function subscribe(follow) {
  followers.add(follow);
  return () => followers.delete(follow);
}

export const unfinished = (job) => job.status === "pending" || job.status === "processing";
export const running = () => [...jobs.values()].filter(unfinished).sort(inOrder);
const inOrder = (a, b) =>
  (a.status === "pending") - (b.status === "pending") ||
  (a.status === "pending" ? b.priority - a.priority || (a.run_at < b.run_at ? -1 : 1) : 0) ||
  (a.created_at < b.created_at ? -1 : 1);
