// Questions: a dialog that must be answered, and one that wants a name typed before something is destroyed.

function openDialog(title, ...content) {
  const dialog = document.getElementById("dialog");
  refill(dialog, h("h1", { id: "dialog-title" }, title), content);
  dialog.setAttribute("aria-labelledby", "dialog-title");
  if (!dialog.open) dialog.showModal();
  const first = dialog.querySelector("input, textarea, button");
  if (first) first.focus();
  return dialog;
}

const closeDialog = () => document.getElementById("dialog").close();
const cancelBar = () => h("div.bar", null, button("Cancel", closeDialog));

// Runs `work` once `name` has been typed.
function destroy(title, explanation, name, verb, work) {
  const go = h("button.bad", { disabled: true }, verb);
  const input = h("input", { id: "typed", autocomplete: "off", spellcheck: "false", oninput: () => (go.disabled = input.value !== name) });
  openDialog(title, h("p", null, explanation), h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      if (input.value !== name) return;
      closeDialog();
      attempt(work);
    },
  }, h("label", { for: "typed" }, "Type ", h("code", null, name), " to go on"), input, h("div.bar", null, button("Cancel", closeDialog), go)));
}

// Asked once: what is typed already stays, whatever fails meanwhile.
const isSigningIn = () => document.getElementById("dialog").open && Boolean(document.getElementById("user-name"));

function signIn(why) {
  if (isSigningIn()) return;
  const fault = h("p.bad", { role: "alert" }, why || "");
  const field = (id, label, attributes) => [h("label", { for: id }, label), h("input", { id, required: true, ...attributes })];
  const keep = h("input", { type: "checkbox", id: "keep" });
  let isDone = false;
  const dialog = openDialog("Sign in", fault, h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      const [name, password] = ["user-name", "user-password"].map((id) => document.getElementById(id).value);
      try {
        app.token = null;
        const { token } = await call("auth/authenticate", { name, password });
        Object.assign(app, { token, user: name });
        for (const [key, value] of [["token", token], ["user", name]]) keep.checked ? sessionStorage.setItem(key, value) : sessionStorage.removeItem(key);
        await readRoles();
        isDone = true;
        closeDialog();
        show();
      } catch (error) {
        fault.textContent = error.message;
      }
    },
  }, field("user-name", "User", { autocomplete: "username", value: app.user || "" }), field("user-password", "Password", { type: "password", autocomplete: "current-password" }),
    h("label", null, keep, "until this tab is closed, also over a reload"), h("div.bar", null, button("Cancel", closeDialog), h("button.main", null, "Sign in"))));
  // Who does not want to is not asked each second.
  dialog.addEventListener("close", () => (app.hasDeclined = !isDone), { once: true });
}

function signOut() {
  Object.assign(app, { token: null, user: null, roles: null });
  sessionStorage.clear();
  show();
}
