// A web server whose pages say who asks.
'use strict';
const server = require('http').createServer((request, response) => {
  response.end(`${request.socket.remoteAddress.replace('::ffff:', '')}\n`);
});
server.listen(Number(process.argv[2]), '::', () => console.log('ready'));
