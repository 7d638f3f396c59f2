// Runs checks one after the other, and prints what they found as one JSON object: check → result, or its error.

export const report = async (checks) => {
  const results = {};
  for (const [name, check] of Object.entries(checks)) {
    try {
      results[name] = await check();
    } catch (error) {
      results[name] = { error: String(error.message), status: error.status ?? error.response?.status };
    }
  }
  console.log(JSON.stringify(results));
};

export const statuses = async (calls) => {
  const found = {};
  for (const [name, call] of Object.entries(calls)) {
    try {
      found[name] = String(await call());
    } catch (error) {
      found[name] = error.status ?? error.response?.status ?? String(error.message);
    }
  }
  return found;
};
