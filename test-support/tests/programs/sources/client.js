// Fetches a page over both address families in the ways that Node programs do.
'use strict';
const dns = require('dns').promises;
const http = require('http');
const net = require('net');

const [v4, v6, port, silent] = process.argv.slice(2);
const show = (text) => console.log(text.trim());

const get = (options) => new Promise((resolve, reject) => {
  http.get({ path: '/who', port, ...options }, (response) => {
    let page = '';
    response.on('data', (part) => { page += part; });
    response.on('end', () => resolve(show(page)));
  }).on('error', reject);
});

const raw = (options) => new Promise((resolve, reject) => {
  const socket = net.connect({ port, ...options });
  let page = '';
  // Written before it is connected, as streams allow.
  socket.write('GET /who HTTP/1.0\r\n\r\n');
  socket.on('data', (part) => { page += part; });
  socket.on('end', () => resolve(show(page.split('\r\n\r\n')[1])));
  socket.on('error', reject);
});

const times = (count, make) => Promise.all(Array.from({ length: count }, make));

async function main() {
  for (const host of [v4, v6]) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
    await times(20, () => get({ host, agent }));
    agent.destroy();
    await times(20, () => get({ host, agent: false }));
    await times(20, () => raw({ host }));
    const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}/who`;
    await times(20, async () => show(await (await fetch(url)).text()));
  }
  // A name whose first address does not answer: the next one is tried beside it.
  const { address } = await dns.lookup(v4, { family: 4 });
  const lookup = (name, options, done) => {
    done(null, [{ address: silent, family: 6 }, { address, family: 4 }]);
  };
  await raw({ host: 'name.test', lookup, autoSelectFamily: true });
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
