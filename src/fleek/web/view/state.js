// The state of the service in a sentence.
const SENTENCE = { healthy: "All is well", degraded: "Works, with a limitation", unhealthy: "Something is broken" };

export async function state() {
  try {
    const answer = await fetch("readyz", { headers: { Accept: "application/json" }, cache: "no-store" });
    return await answer.json();
  } catch { return { status: "unreachable" }; }
}
export const inWords = (status) => SENTENCE[status] ?? "Cannot be reached";
