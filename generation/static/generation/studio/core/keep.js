/** What this browser remembers of the page. Never a key, never a picture. A browser that forbids it forgets. */

export function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`studio.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function write(name, value) {
  try {
    localStorage.setItem(`studio.${name}`, JSON.stringify(value));
  } catch {
    // private mode or a full disk: the page works without
  }
}

/** Forgets what belongs to the account that leaves. */
export function forget() {
  try {
    for (const name of Object.keys(localStorage)) if (name.startsWith("studio.")) localStorage.removeItem(name);
    localStorage.removeItem("key"); // of an earlier version of this page
  } catch {
    // nothing was kept
  }
}
