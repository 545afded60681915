"""Publishes messages to a broker of AMQP, each of them confirmed, and consumes them."""
import sys

import pika

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
parameters = pika.ConnectionParameters(host, port, socket_timeout=60, stack_timeout=120)
sender, receiver = pika.BlockingConnection(parameters), pika.BlockingConnection(parameters)
channel = sender.channel()
channel.confirm_delivery()
channel.queue_declare("queue", durable=True)
for number in range(count):
    channel.basic_publish("", "queue", str(number).encode(), mandatory=True)
channel = receiver.channel()
for number, (method, _, body) in enumerate(channel.consume("queue", inactivity_timeout=60)):
    assert body == str(number).encode(), (number, body)
    channel.basic_ack(method.delivery_tag)
    if number + 1 == count:
        break
channel.cancel()
receiver.close()
sender.close()
print("ok")
