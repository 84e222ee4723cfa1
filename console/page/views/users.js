// Users and roles, and what a user may do.

async function users(main, params, signal) {
  const status = await call("auth/status", {}, signal);
  const [{ users: names = [] }, { roles: roleNames = [] }] = await Promise.all([call("auth/user/list", {}, signal), call("auth/role/list", {}, signal)]);
  const [accounts, roles] = await Promise.all([
    Promise.all(names.map(async (name) => ({ name, roles: (await call("auth/user/get", { name }, signal)).roles || [] }))),
    Promise.all(roleNames.map(async (role) => ({ name: role, perm: (await call("auth/role/get", { role }, signal)).perm || [] }))),
  ]);
  const run = (path, body) => async () => {
    await call(path, body);
    show();
  };
  fill(main, [
    h("h1", null, "Users and roles"),
    h("div.bar", null, h("span.grow", null, status.enabled ? "Users must sign in." : "Nobody has to sign in.", soft(` Revision ${status.authRevision || 0}`)),
      status.enabled ? action("Turn off", () => destroy("Turn users off", "Then everybody may do everything.", "auth disable", "Turn off", run("auth/disable")), ".bad") : action("Turn on", () => destroy("Turn users on", "A user root with the role root must be there; whoever has no password is locked out.", "auth enable", "Turn on", run("auth/enable")))),
    h("div.bar", null, h("h2.grow", null, "Users"), action("New user", newUser)),
    table(["User", "Roles", ""], accounts.map((user) => [
      user.name, wide(user.roles.map((role) => [role, " ", action("take away", () => destroy("Take a role away", `${user.name} loses the role ${role}.`, user.name, "Take it away", run("auth/user/revoke", { name: user.name, role })), ".plain"), "  "])),
      [action("Give a role", () => pick("Give a role to " + user.name, "role", roleNames, (role) => run("auth/user/grant", { user: user.name, role })())), " ", action("Password", () => newPassword(user.name)), " ",
        action("Delete", () => destroy("Delete a user", "", user.name, "Delete", run("auth/user/delete", { name: user.name })), ".bad")],
    ]), "no users"),
    h("div.bar", null, h("h2.grow", null, "Roles"), action("New role", () => pick("New role", "name", null, (name) => run("auth/role/add", { name })()))),
    table(["Role", "Permissions", ""], roles.map((role) => [
      role.name, wide(role.name === "root" ? soft("everything") : role.perm.map(({ permType, key, range_end }) => h("div", null, h("span.tag", null, (permType || "READ").toLowerCase()), " ", h("code", null, rangeText(key, range_end)), " ",
        action("take away", () => destroy("Take a permission away", `${role.name} loses ${rangeText(key, range_end)}.`, role.name, "Take it away", run("auth/role/revoke", { role: role.name, key, range_end: range_end || "" })), ".plain")))),
      role.name === "root" ? "" : [action("Give a permission", () => newPermission(role.name)), " ", action("Delete", () => destroy("Delete a role", "", role.name, "Delete", run("auth/role/delete", { role: role.name })), ".bad")],
    ]), "no roles"),
    h("h2", null, "Test a permission"), testBox(accounts, roles, params)]);
}

const pick = (title, name, options, then) => openDialog(title, form([[name, options ? "Role" : "Name", options ? { options } : { required: true }]], "Do it", async (typed) => {
  closeDialog();
  await then(typed[name]);
}), cancelBar());

const newUser = () => openDialog("New user", form([["name", "Name", { required: true }], ["password", "Password", { type: "password", autocomplete: "new-password" }]], "Make it", async ({ name, password }) => {
  closeDialog();
  await call("auth/user/add", password ? { name, password } : { name, options: { no_password: true } });
  show();
}), h("p.soft", null, "Without a password, only a certificate of that name can be used."), cancelBar());

const newPassword = (name) => openDialog("Password of " + name, form([["password", "New password", { type: "password", autocomplete: "new-password", required: true }]], "Change", async ({ password }) => {
  closeDialog();
  await call("auth/user/changepw", { name, password });
  notice("changed", false);
}), cancelBar());

const newPermission = (role) => openDialog("A permission for " + role, form([["type", "To", { options: ["READ", "WRITE", "READWRITE"] }], ["key", "Key or prefix"], ["isPrefix", "All below it", { type: "checkbox", checked: true }]], "Give", async ({ type, key, isPrefix }) => {
  closeDialog();
  const bytes = keyBytes(key);
  await call("auth/role/grant", { name: role, perm: { permType: type, ...(isPrefix ? prefixRange(bytes) : { key: toBase64(bytes) }) } });
  show();
}), cancelBar());

// Answers as the server would, with the role that lets it happen. The address holds the question.
function testBox(accounts, roles, params) {
  const out = h("p", { role: "status" });
  const test = ({ user, write, key, below }) => {
    const account = accounts.find(({ name }) => name === user);
    if (!account) return refill(out, "no such user");
    const bytes = keyBytes(key || ""), isRange = below && below !== "false";
    const all = isRange ? prefixRange(bytes) : { key: toBase64(bytes), range_end: "" };
    const held = roles.filter(({ name }) => account.roles.includes(name)).concat(account.roles.includes("root") ? [{ name: "root" }] : []);
    const right = testRight(held, write === "write", fromBase64(all.key), fromBase64(all.range_end));
    const what = `${user} may ${right.may ? "" : "not "}${write} ${rangeText(all.key, all.range_end)}`;
    return refill(out, h(right.may ? "span.good" : "span.bad", null, what), right.may ? ` by ${right.by.join(", ")}` : right.missing && right.by.length ? `: covered only up to ${keyText(right.missing)}` : "");
  };
  const fields = [["user", "User", { options: accounts.map(({ name }) => name), value: params.user }], ["write", "May", { options: ["read", "write"], value: params.write }], ["key", "Key or prefix", { value: params.key || "" }], ["below", "All below it", { type: "checkbox", checked: params.below === "true" }]];
  if (params.user) test(params);
  return h("div", null, form(fields, "Test", (typed) => {
    history.replaceState(null, "", formatRoute("users", { ...typed, below: typed.below ? "true" : "" }));
    test(typed);
  }, ""), out);
}
