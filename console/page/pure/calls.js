// Every call of the API as a form: path below /v3, fields with their kinds, and the etcdctl command that does the same.
// Kinds: b bytes, s text, n number, o yes or no, l list of texts, i id in hex, else names of an enumeration.

const CALLS = `
kv/range|key:b range_end:b limit:n revision:n sort_order:NONE,ASCEND,DESCEND sort_target:KEY,VERSION,CREATE,MOD,VALUE serializable:o keys_only:o count_only:o min_mod_revision:n max_mod_revision:n|get {key} {range_end} {--limit=limit} {--rev=revision} {--order=sort_order} {--sort-by=sort_target} {--consistency=s:serializable} {--keys-only:keys_only} {--count-only:count_only} {--min-mod-rev=min_mod_revision} {--max-mod-rev=max_mod_revision}
kv/put|key:b value:b lease:i prev_kv:o ignore_value:o ignore_lease:o|put {key} {value} {--lease=lease} {--prev-kv:prev_kv} {--ignore-value:ignore_value} {--ignore-lease:ignore_lease}
kv/deleterange|key:b range_end:b prev_kv:o|del {key} {range_end} {--prev-kv:prev_kv}
kv/txn|compare:j success:j failure:j|txn
kv/compaction|revision:n physical:o|compact {revision} {--physical:physical}
watch|create_request:j|watch
lease/grant|TTL:n ID:i|lease grant {TTL}
lease/revoke|ID:i|lease revoke {ID}
lease/keepalive|ID:i|lease keep-alive --once {ID}
lease/timetolive|ID:i keys:o|lease timetolive {ID} {--keys:keys}
lease/leases||lease list
cluster/member/list|linearizable:o|member list
cluster/member/add|peerURLs:l isLearner:o|member add NAME {--peer-urls=peerURLs} {--learner:isLearner}
cluster/member/remove|ID:i|member remove {ID}
cluster/member/update|ID:i peerURLs:l|member update {ID} {--peer-urls=peerURLs}
cluster/member/promote|ID:i|member promote {ID}
maintenance/status||endpoint status
maintenance/alarm|action:GET,ACTIVATE,DEACTIVATE memberID:i alarm:NONE,NOSPACE,CORRUPT|alarm list
maintenance/defragment||defrag
maintenance/hash||
maintenance/hashkv|revision:n|endpoint hashkv {--rev=revision}
maintenance/snapshot||snapshot save FILE
maintenance/transfer-leadership|targetID:i|move-leader {targetID}
maintenance/downgrade|action:VALIDATE,ENABLE,CANCEL version:s|downgrade {action} {version}
auth/authenticate|name:s password:s|
auth/status||auth status
auth/enable||auth enable
auth/disable||auth disable
auth/user/add|name:s password:s options:j|user add {name}
auth/user/get|name:s|user get {name}
auth/user/list||user list
auth/user/delete|name:s|user delete {name}
auth/user/changepw|name:s password:s|user passwd {name}
auth/user/grant|user:s role:s|user grant-role {user} {role}
auth/user/revoke|name:s role:s|user revoke-role {name} {role}
auth/role/add|name:s|role add {name}
auth/role/get|role:s|role get {role}
auth/role/list||role list
auth/role/delete|role:s|role delete {role}
auth/role/grant|name:s perm:j|role grant-permission
auth/role/revoke|role:s key:b range_end:b|role revoke-permission {role} {key} {range_end}
lock/lock|name:b lease:i|lock {name}
lock/unlock|key:b|del {key}
election/campaign|name:b lease:i value:b|elect {name} {value}
election/proclaim|leader:j value:b|
election/leader|name:b|elect -l {name}
election/observe|name:b|elect -l {name}
election/resign|leader:j|`;

// Example bodies where fields of fields are wanted.
const EXAMPLES = {
  "kv/txn": '{"compare":[{"target":"VERSION","key":"Zm9v","version":"0"}],"success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}],"failure":[{"requestRange":{"key":"Zm9v"}}]}',
  watch: '{"create_request":{"key":"Zm9v","range_end":"Zm9w","prev_kv":true}}',
  "auth/role/grant": '{"name":"reader","perm":{"permType":"READ","key":"Zm9v","range_end":"Zm9w"}}',
};

const callTable = () => CALLS.trim().split("\n").map((line) => {
  const [path, fields, command] = line.split("|");
  return { path, command, fields: fields ? fields.split(" ").map((field) => field.split(":")) : [] };
});

// A body of what was typed; what is empty is left out. Throws where that is no such value.
function bodyOf(call, typed) {
  const body = {};
  for (const [name, kind] of call.fields) {
    const text = typed[name];
    if (text === undefined || text === "" || text === false) continue;
    if (kind === "b") body[name] = toBase64(keyBytes(text));
    else if (kind === "o") body[name] = true;
    else if (kind === "l") body[name] = text.split(/[\s,]+/).filter(Boolean);
    else if (kind === "j") body[name] = JSON.parse(text);
    else if (kind === "i") {
      body[name] = idFromHex(text);
      if (!body[name]) throw new Error(`${name}: an id is up to 16 hexadecimal digits`);
    } else if (kind === "n") {
      if (!/^-?\d+$/.test(text)) throw new Error(`${name}: not a whole number`);
      body[name] = text;
    } else body[name] = text;
  }
  return body;
}

// A word as shells read it back.
const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : /[^\x20-\x7e]|\\x/.test(text) ? "$'" + text.replace(/'/g, "\\'") + "'" : "'" + text.replace(/'/g, "'\\''") + "'");

function curlCommand(origin, path, body, hasToken) {
  const isStream = /^(watch|maintenance\/snapshot|election\/observe)$/.test(path);
  return `curl ${isStream ? "-sN" : "-s"} ${hasToken ? '-H "Authorization: $TOKEN" ' : ""}${shellWord(origin + "/v3/" + path)} -d ${shellWord(body)}`;
}

function etcdctlCommand(origin, call, typed) {
  if (!call.command) return "";
  const parts = call.command.replace(/\{([^}]*)\}/g, (_, slot) => {
    const [flag, field] = slot.startsWith("--") ? slot.split(/[=:](?=\w+$)/) : [null, slot];
    const text = typed[field];
    if (text === undefined || text === "" || text === false) return "";
    return !flag ? shellWord(text) : text === true ? flag : `${flag}=${shellWord(text)}`;
  });
  return `etcdctl --endpoints=${origin} ${parts.replace(/ +/g, " ").trim()}`;
}
