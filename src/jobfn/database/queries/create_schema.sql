create schema @schema@
