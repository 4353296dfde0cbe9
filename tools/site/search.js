// Asks the search of the built site, and fails if a word does not find its page first.
// Use: node tools/site/search.js target/site
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const FIRST = {
  "how fast": "figures.html",
  "how fast is it compared with what I have": "figures.html",
  "performance": "figures.html",
  "bare LF": "how-to/refused.html",
  "why was my message refused with 550 5.5.2": "how-to/refused.html",
  "550 5.5.2": "how-to/refused.html",
  "refuse mail to unknown users": "how-to/unknown-users.html",
  "unknown user": "how-to/unknown-users.html",
  "OAuth": "how-to/oauth.html",
  "send through Gmail with OAuth": "how-to/oauth.html",
  "Gmail": "how-to/oauth.html",
  "TLS": "how-to/tls-and-auth.html",
  "timeout": "limits-and-timeouts.html",
  "port this aiosmtpd handler": "moving-from-aiosmtpd.html",
  "aiosmtpd": "moving-from-aiosmtpd.html",
  "test my application's mail in pytest": "testing.html",
  "pytest": "testing.html",
  "smart host": "how-to/smart-host.html",
  "relay with a password": "how-to/smart-host.html",
  "relay": "how-to/smart-host.html",
  "deliver to Dovecot by LMTP": "how-to/dovecot.html",
  "Dovecot": "how-to/dovecot.html",
  "limit how many messages a user sends an hour": "how-to/rate-limits.html",
  "rate limit": "how-to/rate-limits.html",
  "limit messages per user per hour": "how-to/rate-limits.html",
  "newsletter": "how-to/many-messages.html",
  "send many messages without an event loop": "how-to/many-messages.html",
  "send many messages": "how-to/many-messages.html",
  "sign outgoing mail with DKIM": "filters.html",
  "DKIM": "filters.html",
  "scan with rspamd": "filters.html",
  "first hour": "first-hour.html",
  "smuggling": "explanation/smuggling.html",
  "ServerConfig": "limits-and-timeouts.html",
};

const site = process.argv[2];
const workers = path.join(site, "assets/javascripts/workers");
const code = fs.readdirSync(workers).find((name) => /^search\..*\.js$/.test(name));
let listener;
let answer;
const world = vm.createContext({
  self: {},
  get lunr() { return this.self.lunr; },
  addEventListener: (_, given) => { listener = given; },
  postMessage: (message) => answer(message.data),
  console,
});
vm.runInContext(fs.readFileSync(path.join(workers, code), "utf8"), world);
// The messages of the theme: 0 gives the index, and 2 is a question.
const ask = (type, data) => new Promise((done) => { answer = done; listener({ data: { type, data } }); });

(async () => {
  const index = JSON.parse(fs.readFileSync(path.join(site, "search/search_index.json"), "utf8"));
  await ask(0, { ...index, options: { suggest: false } });
  for (const [words, page] of Object.entries(FIRST)) {
    const { items } = await ask(2, words);
    const found = items.slice(0, 3).map((hits) => hits[0].location.split("#")[0]);
    if (found[0] !== page) {
      console.error(`search.js: "${words}" finds ${found.join(", ") || "nothing"}; ${page} must be first`);
      process.exitCode = 1;
    }
  }
})();
